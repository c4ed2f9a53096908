"""`python -m tests.train.tracking.impatient ...` is `python -m train ...` with another limit for W&B at its end.

AUDIO_TRAIN_CLOSE_S is the limit in seconds. Where it is reached, the stacks of all threads are printed.
"""

import faulthandler
import os

from train import __main__ as command
from train.tracking.wandb_sender import Sender
from train.training import attempt


def _give_up(sender: Sender, waited_s: float) -> None:
    faulthandler.dump_traceback(all_threads=True)
    give_up(sender, waited_s)


give_up = Sender.give_up

if __name__ == "__main__":
    attempt.CLOSE_S = float(os.environ["AUDIO_TRAIN_CLOSE_S"])
    Sender.give_up = _give_up
    command.main()
