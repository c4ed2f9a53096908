"""Special convolutions: causal ones, and those next to a waveform, which stay in float32 under autocast.

A causal layer sees only the past, so that audio can pass through it block by block. It puts the frames before its input
in front of it: zeros at the start of a chunk, or, in a stream, what a `Memory` holds of the blocks before. Both give
the same numbers but for rounding.

A waveform in bfloat16 has an error 45 dB below its loudest bands, in all bands alike, which is too much for quiet upper
bands. Beyond the layers next to it bands are channels, and the error of each is 45 dB below its own level.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Memory:
    """What the causal layers of a model keep between two blocks: tensors in the order in which the layers use them.

    A pass over a block begins with `begin`, and every pass uses the same layers in the same order.

    Attributes:
        states: One tensor [B, ...] for each use of a layer; empty before the first block.
    """

    def __init__(self, states: Sequence[Tensor] = ()) -> None:
        self.states = list(states)
        self._next = 0

    def begin(self) -> None:
        """Starts a pass over a block."""
        self._next = 0

    def resume(self, states: Sequence[Tensor]) -> None:
        """Starts a pass over a block that continues from these states; the list itself stays as it is."""
        self.states = list(states)
        self.begin()

    def extended(self, x: Tensor, frames: int) -> Tensor:
        """[B, C, T] with the `frames` frames before it, zeros at the start: [B, C, frames + T]."""
        if self._at_start():
            self.states.append(x.new_zeros(*x.shape[:2], frames))
        joined = torch.cat([self.states[self._next], x], 2)
        self._keep(joined[..., joined.shape[2] - frames :].clone())  # not a view, which would hold the whole block
        return joined

    def counted(self, x: Tensor, frames: int) -> Tensor:
        """How many frames came before this block of `frames`: int64 [B, 1]; x [B, ...] gives the batch and device."""
        if self._at_start():
            self.states.append(torch.zeros(x.shape[0], 1, dtype=torch.int64, device=x.device))
        before = self.states[self._next]
        self._keep(before + frames)
        return before

    def _at_start(self) -> bool:
        """Whether this use of a layer has no state yet: in the first pass of a stream."""
        return self._next == len(self.states)

    def _keep(self, state: Tensor) -> None:
        self.states[self._next] = state
        self._next += 1


class Causal(nn.Module):
    """A module that sees only the past.

    Attributes:
        memory: In a stream, what came before; None for chunks, before which there is silence.
    """

    memory: Memory | None = None

    def extended(self, x: Tensor, frames: int) -> Tensor:
        """[B, C, T] -> [B, C, frames + T]: the input behind what came before it."""
        if self.memory is None:
            return nn.functional.pad(x, (frames, 0))
        return self.memory.extended(x, frames)


class CausalConv1d(Causal, nn.Conv1d):
    """A convolution whose output frame i sees its input up to the end of that frame: [B, C, T] -> [B, C', T / stride].

    Defossez et al. 2022 ("High fidelity neural audio compression", section 3.1) pad alike.
    """

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        past = self.dilation[0] * (self.kernel_size[0] - 1) + 1 - self.stride[0]
        return super().forward(self.extended(input, past) if past else input)


class CausalConvTranspose1d(Causal, nn.ConvTranspose1d):
    """The mirror of a strided `CausalConv1d` with a kernel of twice the stride: [B, C, T] -> [B, C', T * stride].

    Frame i of the input reaches frames i and i + 1 of the output.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        # The padding drops the part that belongs to the frame before, and the part after the last frame.
        super().__init__(inputs, outputs, 2 * stride, stride=stride, padding=stride)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See the class."""
        return super().forward(self.extended(input, 1), output_size)


def remember(model: nn.Module, memory: Memory | None) -> None:
    """Gives all causal layers of a model one memory; None makes them take chunks again."""
    for layer in model.modules():
        if isinstance(layer, Causal):
            layer.memory = memory


class InFloat32(nn.Module):
    """A mixin for layers that compute in the type of their weights, float32, under autocast too."""

    def forward(self, input: Tensor, *rest: Any) -> Tensor:
        """See the layer; the output has the type of the weights."""
        if not _is_autocast(input):
            return super().forward(input, *rest)
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.get_parameter("weight").dtype), *rest)


class FromWaveform(InFloat32):
    """The same for layers that take a waveform. Bands are channels of their output, which has the type of autocast."""

    def forward(self, input: Tensor, *rest: Any) -> Tensor:
        """See the layer."""
        output = super().forward(input, *rest)
        return output.to(torch.get_autocast_dtype(input.device.type)) if _is_autocast(input) else output


def _is_autocast(input: Tensor) -> bool:
    kind = input.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


class WaveformConv1d(FromWaveform, nn.Conv1d):
    """`nn.Conv1d` on a waveform."""


class CausalWaveformConv1d(FromWaveform, CausalConv1d):
    """`CausalConv1d` on a waveform."""


class WaveformConvTranspose1d(InFloat32, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` that makes a waveform."""


class CausalWaveformConvTranspose1d(InFloat32, CausalConvTranspose1d):
    """`CausalConvTranspose1d` that makes a waveform."""
