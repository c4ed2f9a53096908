"""Asks the server of `tests/preloaded.py` for a fork, passes signals on to it, and ends as it ends.

Usage: client.py python|accelerate WORDS. What is not `python [-u] -m` of one of MODULES is run by Python itself.
Starts in some 20 ms: it imports little, and runs without site-packages.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from contextlib import suppress

MODULES = ("train", "shards", "audiovae")
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>

program, *words = sys.argv[1:]
unbuffered = program == "python" and words[:1] == ["-u"]
if program == "accelerate":
    module, own = "accelerate.commands.accelerate_cli", words
else:
    flag, module = [*words[unbuffered:], "", ""][:2]
    own = words[unbuffered + 2 :]
    if flag != "-m" or module not in MODULES:
        python = os.environ["AUDIO_TEST_PYTHON"]
        os.execv(python, [python, *words])

fork = 0
early: list[int] = []


def pass_on(number: int, _: object) -> None:
    """To the fork; until there is one, signals are kept."""
    if not fork:
        early.append(number)
        return
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(fork, number)


ignored = [number for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN]
for number in PASSED_ON:
    if number not in ignored:
        signal.signal(number, pass_on)
request = {"module": module, "words": own, "environment": dict(os.environ), "session": False, "number": 0}
request |= {"folder": os.getcwd(), "ignored": ignored, "unbuffered": unbuffered}
content = json.dumps(request).encode()
# When the launcher that started this program is killed, so that its processes end as they would without forks.
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["AUDIO_TEST_FORKS"])
socket.send_fds(connection, [len(content).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(content)
answers = connection.makefile()
fork = json.loads(answers.readline())["started"]
for number in early:
    pass_on(number, None)
for stream in (0, 1, 2):  # only the fork holds them, so that readers see when it closes them
    os.close(stream)
answer = answers.readline()
status = json.loads(answer)["status"] if answer else 1
if status < 0:
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
