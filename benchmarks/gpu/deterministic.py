"""A training with deterministic kernels: python -m benchmarks.gpu.deterministic ARGUMENTS of `python -m train`."""

import os
import sys

os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when the first product is computed

import torch

from train.__main__ import run

if __name__ == "__main__":
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    code = run(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # as `python -m train` ends: threads of libraries may abort in the interpreter's shutdown
