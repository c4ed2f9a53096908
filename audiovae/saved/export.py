"""Exports the encoder and the decoder as standalone programs: torch.export, TorchScript or ONNX.

    encoder: audio [batch, A, samples] float32 in [-1, 1]  ->  the latents
    decoder: the latents  ->  audio [batch, A, samples] float32

The latents are one tensor `latents` [batch, channels, frames] float32, or one for each level, `latents_0` (the finest),
`latents_1`, ..., or `codes` [batch, codebooks, frames] int64. Only the batch size may vary. Each program is loaded from
its file and compared with the model before the files are put in place.
"""

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder
from audiovae.output import write_together
from audiovae.saved.model_folder import fingerprint
from shards.audio.levels import PEAK

Format = Literal["torch", "torchscript", "onnx"]
ABOUT_FILE = "export.json"
SUFFIX = {"torch": ".pt2", "torchscript": ".ts", "onnx": ".onnx"}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# The largest difference from PyTorch that counts as rounding.
LIMIT = 1e-4
# Batch size for tracing the programs, and batch sizes for comparing them with the model.
TRACED, COMPARED = 2, (1, 3)


class Program(nn.Module):
    """What is exported.

    Attributes:
        named: How many inputs are parameters of their own; the others come as one `*args` parameter.
    """

    named: int


class EncoderProgram(Program):
    """audio [B, A, samples] -> the tensors of the latents."""

    named = 1

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, audio: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        return tuple(self.model.to_tensors(self.model.encode(audio)))


class DecoderProgram(Program):
    """The tensors of the latents -> (audio [B, A, samples],)."""

    named = 0

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, *latents: Tensor) -> tuple[Tensor]:
        """See the class."""
        return (self.model.decode(self.model.from_tensors(latents)),)


def latent_names(model: Autoencoder) -> list[str]:
    """The names of the latents in the programs."""
    if model.code_size:
        return ["codes"]
    levels = len(model.latent_shapes)
    return ["latents"] if levels == 1 else [f"latents_{i}" for i in range(levels)]


@torch.no_grad()
def export_model(model: Autoencoder, folder: str | Path, format: Format = "torch") -> dict[str, float]:
    """Writes `encoder`, `decoder` and `export.json`, which describes names, shapes and types.

    Args:
        model: A model on the CPU, in evaluation mode.
        folder: Where to write; it is created if it does not exist.
        format: "torch" (.pt2 of torch.export), "torchscript" or "onnx".

    Returns:
        The largest difference from the model for each file, as measured by `Autoencoder.disagreement` for latents.

    Raises:
        ModelError: if the format does not support the model, a package is missing, or a program differs by more than
            LIMIT. Then nothing is written.
    """
    check_format(model, format)
    found: dict[str, float] = {}
    write_together(folder, lambda aside: found.update(_write(model, aside, format)), ABOUT_FILE)
    return found


def check_format(model: Autoencoder, format: Format) -> None:
    """Raises ModelError if the format does not support the model, or a package is missing."""
    if format not in SUFFIX:
        raise ModelError(f"--format {format}: choose {', '.join(SUFFIX)}")
    if format == "onnx":
        if model.representation.not_in_onnx:
            raise ModelError(f"--format onnx: {model.representation.not_in_onnx}; choose --format torch or torchscript")
        missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise ModelError(f"--format onnx needs {', '.join(missing)}; run: pip install {' '.join(missing)}")


def _write(model: Autoencoder, folder: Path, format: Format) -> dict[str, float]:
    audio = probe(max(TRACED, *COMPARED), model.samples, model.audio_channels)
    latents = EncoderProgram(model)(audio)
    names = latent_names(model)
    halves: dict[str, Any] = {
        "encoder": (EncoderProgram(model), (audio,), ["audio"], names),
        "decoder": (DecoderProgram(model), latents, names, ["audio"]),
    }
    about = describe(model, format)
    found = {}
    for half, (program, inputs, takes, gives) in halves.items():
        file = folder / f"{half}{SUFFIX[format]}"
        # This call also creates the constants that are made at first use, so that tracing does not create them.
        outputs = program(*inputs)
        run = WRITERS[format](program.eval(), tuple(part[:TRACED] for part in inputs), takes, gives, file)
        compare = _of_latents if half == "encoder" else _of_audio
        found[file.name] = max(compare(model, run, tuple(part[:items] for part in inputs)) for items in COMPARED)
        if not found[file.name] <= LIMIT:
            raise ModelError(
                f"{half}: the {format} program differs from PyTorch by {found[file.name]:.2g}, more than {LIMIT:g}; "
                "nothing was written; use the model itself"
            )
        about[half] = {
            "file": file.name,
            "inputs": signature(takes, inputs),
            "outputs": signature(gives, outputs),
            "largest_difference": found[file.name],
        }
    (folder / ABOUT_FILE).write_text(json.dumps(about, indent=1) + "\n")
    return found


def describe(model: Autoencoder, format: Format) -> dict[str, Any]:
    """What `export.json` says of the model."""
    return {
        "format": format,
        "family": model.family,
        "model": fingerprint(model),
        "rate": model.rate,
        "samples": model.samples,
        "audio_channels": model.audio_channels,
        "level": model.level,
        "peak": PEAK if model.level == "peak" else None,
        "code_size": model.code_size,
    }


def probe(items: int, samples: int, channels: int = 1) -> Tensor:
    """Test audio [items, channels, samples]: sine sweeps with a little noise, each item at half the level of the last.

    A second channel has the sweep backwards, and other noise.
    """
    first = _probe(items, samples, 0)
    return first if channels == 1 else torch.cat([first, _probe(items, samples, 1).flip(2)], 1)


def _probe(items: int, samples: int, seed: int) -> Tensor:
    """One channel of `probe`, [items, 1, samples]."""
    time = torch.linspace(0, 1, samples)
    noise = torch.randn(items, samples, generator=torch.Generator().manual_seed(seed))
    level = PEAK * 0.5 ** torch.arange(items).unsqueeze(1)
    pitch = 1 + torch.arange(items).unsqueeze(1)
    sweep = torch.sin(2 * torch.pi * samples / 50 * pitch * time.square())
    return (level * (0.95 * sweep + 0.01 * noise.clamp(-5, 5))).unsqueeze(1)


def _of_latents(model: Autoencoder, run: Callable[..., Sequence[Tensor]], inputs: tuple[Tensor, ...]) -> float:
    found = run(*inputs)
    wanted = EncoderProgram(model)(*inputs)
    if [(part.shape, part.dtype) for part in found] != [(part.shape, part.dtype) for part in wanted]:
        return float("inf")
    return model.disagreement(inputs[0], model.from_tensors(list(found))).item()


def _of_audio(model: Autoencoder, run: Callable[..., Sequence[Tensor]], inputs: tuple[Tensor, ...]) -> float:
    found, wanted = run(*inputs)[0], DecoderProgram(model)(*inputs)[0]
    return (found - wanted).abs().max().item() if found.shape == wanted.shape else float("inf")


def signature(names: Sequence[str], tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Names, types and shapes of inputs or outputs for `export.json`."""
    return [
        {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": ["batch", *tensor.shape[1:]]}
        for name, tensor in zip(names, tensors, strict=True)
    ]


def _dynamic(inputs: tuple[Tensor, ...], program: Program) -> tuple:
    """Dynamic shapes: only the batch size varies. A `*args` parameter counts as one argument."""
    batch = torch.export.Dim("batch", min=1)
    each = tuple({0: batch} for _ in inputs)
    own, rest = each[: program.named], each[program.named :]
    return (*own, rest) if rest else own


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the exporters' warnings about optional packages and about their own buffers."""
    talkative = logging.getLogger("torch.onnx")
    level = talkative.level
    talkative.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        talkative.setLevel(level)


def _write_torch(program: Program, inputs: tuple[Tensor, ...], takes: list[str], gives: list[str], file: Path) -> Any:
    # Through memory, because PyTorch's own writer ends the process on a full disk.
    content = io.BytesIO()
    with _quiet():
        torch.export.save(torch.export.export(program, inputs, dynamic_shapes=_dynamic(inputs, program)), content)
        file.write_bytes(content.getbuffer())
        return torch.export.load(file).module()


def _write_torchscript(
    program: Program, inputs: tuple[Tensor, ...], takes: list[str], gives: list[str], file: Path
) -> Any:
    content = io.BytesIO()
    with _quiet():
        # Not traced a second time: the program is compared with the model at two other batch sizes. Frozen, it holds
        # the weights of its own half only, and its outputs need no gradients, which would tie a stream to its past.
        torch.jit.save(torch.jit.freeze(torch.jit.trace(program, inputs, check_trace=False)), content)
        file.write_bytes(content.getbuffer())
        return torch.jit.load(str(file))


def _write_onnx(program: Program, inputs: tuple[Tensor, ...], takes: list[str], gives: list[str], file: Path) -> Any:
    import onnxruntime  # an optional extra

    with _quiet():
        traced = torch.export.export(program, inputs, dynamic_shapes=_dynamic(inputs, program))
        exported = torch.onnx.export(traced, dynamo=True, verbose=False, input_names=takes, output_names=gives)
    assert exported is not None  # with dynamo there is a program
    for value in [*exported.model.graph.inputs, *exported.model.graph.outputs]:
        shape = value.shape
        assert shape is not None
        value.shape = type(shape)(["batch", *shape[1:]])
    exported.save(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(*tensors: Tensor) -> list[Tensor]:
        given = {name: tensor.numpy() for name, tensor in zip(takes, tensors, strict=True)}
        return [torch.from_numpy(output) for output in session.run(gives, given)]

    return run


WRITERS = {"torch": _write_torch, "torchscript": _write_torchscript, "onnx": _write_onnx}
