"""What GPUs can compute at most, as their vendor publishes it."""

import re
from typing import NamedTuple

import torch


class Peak(NamedTuple):
    """Dense peaks in TFLOP/s, without sparsity: of tensor cores in bf16 and TF32, and of float32 without them."""

    bf16: float
    tf32: float
    fp32: float


# By a pattern of the device's name; the first that matches counts, so variants stand before the plain name. From
# NVIDIA's data sheets of these products, whose figures "with sparsity" are halved; of the GeForce cards from the Ada
# and Ampere GA102 architecture papers, with float32 accumulation.
PEAKS = {
    r"\bB200\b": Peak(2250, 1125, 75),
    r"\bGH200\b": Peak(989, 494, 67),
    r"\bH200 NVL\b": Peak(835, 417, 60),
    r"\bH200\b": Peak(989, 494, 67),
    r"\bH100 NVL\b": Peak(835, 417, 60),
    r"\bH100 PCIe\b": Peak(756, 378, 51),
    r"\bH100\b": Peak(989, 494, 67),
    r"\bA100\b": Peak(312, 156, 19.5),
    r"\bL40S\b": Peak(362, 183, 91.6),
    r"\bL4\b": Peak(121, 60, 30.3),
    r"\bA40\b": Peak(149.7, 74.8, 37.4),
    r"\bA30\b": Peak(165, 82, 10.3),
    r"\bA10\b": Peak(125, 62.5, 31.2),
    r"\bRTX 4090\b(?! (D|Laptop))": Peak(165.2, 82.6, 82.6),
    r"\bRTX 3090\b(?! Ti)": Peak(71, 35.6, 35.6),
}


def peak_of(name: str) -> Peak | None:
    """The peaks of a device by its name; None if they are not known. A share of a device (MIG) has no peaks here."""
    if "MIG" in name:
        return None
    return next((peak for pattern, peak in PEAKS.items() if re.search(pattern, name)), None)


def peak_flops(name: str, precision: str) -> float | None:
    """FLOP/s that a device could do in a run's precision; None if not known.

    Args:
        name: The device's name.
        precision: "bf16" or "no". Convolutions in float32 run in TF32 unless that is switched off in torch.
    """
    peak = peak_of(name)
    if peak is None:
        return None
    whole = peak.tf32 if torch.backends.cudnn.allow_tf32 else peak.fp32
    return 1e12 * (peak.bf16 if precision == "bf16" else whole)
