"""Interleaved samples by channel."""

from torch import Tensor

# What audio of so many channels is called.
LAYOUTS = {1: "mono", 2: "stereo"}


def by_channel(values: Tensor, channels: int) -> Tensor:
    """A view of interleaved samples by channel: [n, samples * channels] -> [n, channels, samples].

    Mono is a view of the same samples, [n, 1, samples]. Raises RuntimeError where the values are no whole frames.
    """
    return values.unflatten(1, (-1, channels)).transpose(1, 2)
