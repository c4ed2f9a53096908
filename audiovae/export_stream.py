"""Exports a causal model as programs for streams, whose state is among their inputs and outputs.

    encoder: audio [batch, A, frame], state_0, ...  ->  the latents of a frame, next_state_0, ...
    decoder: the latents of a frame, state_0, ...   ->  audio [batch, A, frame], next_state_0, ...

All states are zero at first; the outputs `next_state_N` are the inputs `state_N` of the next call. Files and checks are
otherwise those of `audiovae.saved.export`.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.layers.convolutions import Memory
from audiovae.models.autoencoder import Autoencoder
from audiovae.output import write_together
from audiovae.saved.export import (
    ABOUT_FILE,
    COMPARED,
    SUFFIX,
    TRACED,
    WRITERS,
    Format,
    Program,
    check_format,
    describe,
    latent_names,
    probe,
    signature,
)
from audiovae.streaming.stepper import Stepper, with_memory

# The largest difference from the stream that counts as rounding: of latents, among them logarithms of small levels, and
# of audio.
LIMITS = {"encoder": 1e-4, "decoder": 1e-5}
FRAMES = 8  # that are compared

Run = Callable[..., Sequence[Tensor]]


class StreamProgram(Program):
    """One half of a model on a frame and its states; its own copy of the model has the memory."""

    def __init__(self, model: Autoencoder, frame: int) -> None:
        super().__init__()
        self.memory = Memory()
        self.copy = with_memory(model, frame, self.memory)


class StreamEncoder(StreamProgram):
    """(audio [B, A, frame], *states) -> (*tensors of the latents, *next states)."""

    named = 1

    def forward(self, audio: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        self.memory.resume(states)
        return (*self.copy.to_tensors(self.copy.encode(audio)), *self.memory.states)


class StreamDecoder(StreamProgram):
    """(*tensors of the latents, *states) -> (audio [B, A, frame], *next states)."""

    named = 0

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        levels = len(self.copy.latent_shapes)
        self.memory.resume(inputs[levels:])
        return (self.copy.decode(self.copy.from_tensors(inputs[:levels])), *self.memory.states)


@torch.no_grad()
def export_stream(model: Autoencoder, folder: str | Path, format: Format = "torch") -> dict[str, float]:
    """Writes `encoder`, `decoder` and `export.json` for streams.

    Args:
        model: A causal model on the CPU, in evaluation mode.
        folder: Where to write; it is created if it does not exist.
        format: As in `audiovae.saved.export.export_model`.

    Returns:
        The largest difference from the stream for each file over FRAMES frames, states included; latents as measured by
        `Autoencoder.disagreement`.

    Raises:
        ModelError: if the model is not causal, a package is missing, or a program differs by more than LIMITS.
            Then nothing is written.
    """
    check_format(model, format)
    frame = Stepper(model).frame
    found: dict[str, float] = {}
    write_together(folder, lambda aside: found.update(_write(model, frame, aside, format)), ABOUT_FILE)
    return found


def _write(model: Autoencoder, frame: int, folder: Path, format: Format) -> dict[str, float]:
    names = latent_names(model)
    encoder, decoder = StreamEncoder(model, frame), StreamDecoder(model, frame)
    audio = probe(max(TRACED, *COMPARED), FRAMES * frame, model.audio_channels)
    latents = encoder(audio[..., :frame])[: len(names)]  # a first pass also shows the shapes of the states
    decoder(*latents)
    about = describe(model, format) | {"frame": frame, "latency": frame - 1}
    halves: dict[str, Any] = {
        "encoder": (encoder, (audio[..., :frame],), ["audio"], names),
        "decoder": (decoder, latents, names, ["audio"]),
    }
    found = {}
    for half, (program, blocks, takes, gives) in halves.items():
        file = folder / f"{half}{SUFFIX[format]}"
        inputs = (*blocks, *(torch.zeros_like(state) for state in program.memory.states))
        count = len(inputs) - len(blocks)
        takes = [*takes, *(f"state_{i}" for i in range(count))]
        gives = [*gives, *(f"next_state_{i}" for i in range(count))]
        outputs = program(*inputs)
        run = WRITERS[format](program.eval(), tuple(part[:TRACED] for part in inputs), takes, gives, file)
        compare = _of_encoder if half == "encoder" else _of_decoder
        found[file.name] = max(compare(model, frame, run, audio[:items]) for items in COMPARED)
        if not found[file.name] <= LIMITS[half]:
            raise ModelError(
                f"{half}: the {format} program differs from the stream by {found[file.name]:.2g}, more than "
                f"{LIMITS[half]:g}; nothing was written; use the model itself"
            )
        about[half] = {
            "file": file.name,
            "inputs": signature(takes, inputs),
            "outputs": signature(gives, outputs),
            "states": count,
            "largest_difference": found[file.name],
        }
    (folder / ABOUT_FILE).write_text(json.dumps(about, indent=1) + "\n")
    return found


def _of_encoder(model: Autoencoder, frame: int, run: Run, audio: Tensor) -> float:
    """Runs the program frame by frame, and the model from the program's states; the largest difference."""
    own, levels, worst = StreamEncoder(model, frame), len(model.latent_shapes), 0.0
    own(audio[..., :frame])
    states = [torch.zeros_like(state) for state in own.memory.states]
    for block in audio.split(frame, 2):
        found = list(run(block.contiguous(), *states))
        wanted = own(block, *states)
        own.memory.resume(states)
        apart = own.copy.disagreement(block, own.copy.from_tensors(found[:levels])).item()
        states = found[levels:]
        worst = max(worst, apart, _difference(states, wanted[levels:]))
    return worst


def _of_decoder(model: Autoencoder, frame: int, run: Run, audio: Tensor) -> float:
    """Runs program and model frame by frame on latents of the model, each with its own states."""
    encoder, own, worst = StreamEncoder(model, frame), StreamDecoder(model, frame), 0.0
    levels = len(model.latent_shapes)
    encoded: Sequence[Tensor] = ()
    before: Sequence[Tensor] = ()
    states: Sequence[Tensor] = ()
    for block in audio.split(frame, 2):
        latents = encoder(block, *encoded)
        latents, encoded = latents[:levels], latents[levels:]
        wanted = own(*latents, *before)
        found = list(run(*latents, *(states or [torch.zeros_like(state) for state in wanted[1:]])))
        worst = max(worst, _difference(found, wanted))
        before, states = wanted[1:], found[1:]
    return worst


def _difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest difference of two lists of tensors; infinity if shapes or types differ."""
    if [(part.shape, part.dtype) for part in found] != [(part.shape, part.dtype) for part in wanted]:
        return float("inf")
    pairs = zip(found, wanted, strict=True)
    return max((one.double() - other.double()).abs().max().item() for one, other in pairs)
