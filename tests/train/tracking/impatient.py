"""`python -m tests.train.tracking.impatient ...` is `python -m train ...` with another limit for W&B at its end.

AUDIO_TRAIN_CLOSE_S is the limit in seconds.
"""

import os

from train import __main__ as command
from train.training import attempt

if __name__ == "__main__":
    attempt.CLOSE_S = float(os.environ["AUDIO_TRAIN_CLOSE_S"])
    command.main()
