"""Facts about the machine, from a process of its own: python -m benchmarks.gpu.machine prints them as JSON.

The command itself does not touch the GPU: it would keep memory of it, and a card may be set to allow one process only.
"""

import json
import os
import platform
import subprocess
import sys
from typing import Any


def facts(quick: bool) -> dict[str, Any]:
    """Versions and the device. Results of equal `setting` may be put together.

    Raises:
        subprocess.CalledProcessError: when torch cannot be imported or the device cannot be used.
    """
    words = [sys.executable, "-m", "benchmarks.gpu.machine"]
    found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    found["setting"]["quick"] = quick
    return found


def _look() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.is_available()
    found = {
        "setting": {
            "device": torch.cuda.get_device_name(0) if gpu else platform.machine(),
            "gpu": gpu,
            "torch": torch.__version__,
        },
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
    }
    if gpu:
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "GPU memory in GB": round(properties.total_memory / 1e9, 1),
            "multiprocessors": properties.multi_processor_count,
        }
    return found


if __name__ == "__main__":
    print(json.dumps(_look()))
