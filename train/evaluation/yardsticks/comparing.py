"""Measures a model and the yardsticks on the same passages, with all processes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, compress_recording, decompress_recording, reconstruct_recording
from shards import Split
from train.evaluation.measuring.chunks import Measured
from train.evaluation.measuring.heldout import open_windows
from train.evaluation.measuring.metrics import measure
from train.evaluation.measuring.recordings import join_chunks
from train.evaluation.measuring.sharing import Columns, whole_table
from train.evaluation.yardsticks.bands import band_errors, octave_edges
from train.evaluation.yardsticks.codes import Code, Coded
from train.evaluation.yardsticks.linear import fit, projected
from train.evaluation.yardsticks.opus import has_opus, opus
from train.evaluation.yardsticks.passages import Passage, choose_passages, for_visqol
from train.evaluation.yardsticks.perceptual import measure_perceptual
from train.parallel.engine import Engine

# Bit rates of Opus, in kbit/s. A model's own rate is added if it is beyond them by more than this factor, and in RANGE.
OPUS_KBITS = (8.0, 12.0, 16.0, 24.0)
BEYOND, RANGE = 1.15, (6.0, 256.0)
MEASURES = ("si_sdr", "mel", "stft", "side_mel", "side_level", "level_error_high")
PERCEPTUAL = ("zimtohrli", "visqol")
BY_BAND = ("snr", "level_error", "level_bias")


@dataclass
class Compared:
    """Passages and the measures of every code on each of them.

    Attributes:
        passages: The passages.
        codes: The codes, the model first, then its files.
        columns: By code, in their order: each of MEASURES, those of `side` for stereo only, PERCEPTUAL if measured,
            and `bits` [n]; BY_BAND [n, bands].
        edges: Edges of the bands in Hz.
        linear_from: The split that the linear code was fitted to; empty without one.
        notes: Sentences on yardsticks that were left out.
    """

    passages: list[Passage]
    codes: list[Code]
    columns: list[Columns]
    edges: list[float]
    linear_from: str
    notes: list[str]


def model_rate(model: Autoencoder, columns: Columns, seconds: float) -> dict[str, float | str]:
    """The rate of a model's latents: `kbit_per_second` and what it is of.

    Args:
        model: The model.
        columns: The columns of `latent_columns` for the chunks that are not silent.
        seconds: Length of a chunk.
    """
    if model.code_size:
        return {"kbit_per_second": model.bits_per_second / 1000, "rate_of": "codes"}
    nats = columns["nats"].astype(np.float64).sum(1).mean() / seconds
    return {"kbit_per_second": float(nats / np.log(2) / 1000), "rate_of": "KL"}


def yardstick_codes(
    engine: Engine, split: Split, model: Autoencoder, data: str, kbits: Sequence[float]
) -> tuple[list[Code], str, list[str]]:
    """The codes that a model is compared with; with the split of the linear code, and sentences on what is missing.

    `kbits` are the rates of the model, which Opus gets rows at, see `own_opus_rate`.
    """
    codes: list[Code] = []
    notes: list[str] = []
    if engine.share(has_opus()):
        rates = sorted({*OPUS_KBITS, *(own for each in kbits for own in own_opus_rate(each))})
        codes += [opus_at(kbits, split.rate) for kbits in rates]
    else:
        notes.append(
            "The rows of Opus are missing, because the FFmpeg of this PyAV has no libopus. That of its wheel has it."
        )
    if model.code_size:
        return codes, "", [*notes, "There is no linear optimum here, because the latents of this model are codes."]
    name = "train" if split.manifest.splits.get("train") else split.name
    values = sum(channels * frames for channels, frames in model.latent_shapes) / model.seconds
    if values >= split.rate * split.channels:
        missing = (
            "There is no linear optimum here, because the model has as many latent values as a recording has samples."
        )
        return codes, "", [*notes, missing]
    basis = engine.everywhere(lambda: fit(open_windows(data, name, split.samples), values))
    about: dict[str, float | str] = {"values_per_second": len(basis) * split.rate * split.channels / basis.shape[1]}
    codes.append(Code("linear optimum", "linear", lambda audio: Coded(projected(audio, basis)), about))
    return codes, name, notes


def opus_at(kbits: float, rate: int) -> Code:
    """Opus at a rate in kbit/s, for audio of `rate` Hz."""
    about: dict[str, float | str] = {"rate_of": "packets", "asked_kbit_per_second": kbits}
    return Code(f"Opus {kbits:g}", "opus", lambda audio: opus(audio, rate, round(1000 * kbits)), about)


def own_opus_rate(kbits: float) -> list[float]:
    """A rate of the model as a further rate of Opus, if it is well outside of OPUS_KBITS and in RANGE."""
    outside = not min(OPUS_KBITS) / BEYOND <= kbits <= max(OPUS_KBITS) * BEYOND
    return [round(kbits, 1)] if outside and RANGE[0] <= kbits <= RANGE[1] else []


def compare_codes(
    engine: Engine,
    split: Split,
    model: Autoencoder,
    data: str,
    chunks: Measured,
    latents: Columns,
    with_yardsticks: bool = True,
    with_perceptual: bool = False,
) -> Compared | None:
    """Measures the model, and on request the yardsticks, on passages; the same result on every process.

    Args:
        engine: The processes.
        split: The split of the passages.
        model: A model in evaluation mode.
        data: Path or URL of the shards that hold the split.
        chunks: The measures of all chunks.
        latents: The columns of `latent_columns` for all chunks.
        with_yardsticks: Whether to measure files of the model, Opus and the linear code too.
        with_perceptual: Whether to measure Zimtohrli and ViSQOL.

    Returns:
        None if no recording has a passage.
    """
    passages = choose_passages(split, chunks.silent)
    if not passages:
        return None
    rate = model_rate(model, {name: values[~chunks.silent] for name, values in latents.items()}, model.seconds)
    codes = [Code("this model", "model", lambda audio: Coded(through(model, audio)), rate)]
    linear_from, notes = "", list[str]()
    if with_yardsticks and model.ready:
        codes.append(Code("this model's file", "file", lambda audio: as_file(model, audio), {"rate_of": "its bytes"}))
    slow = for_visqol(len(passages)) if with_perceptual else None
    measured = measure_codes(engine, split, passages, codes, slow)
    if with_yardsticks:
        kbits = [float(rate["kbit_per_second"]), *(packed_rate(columns, passages, split) for columns in measured[1:])]
        more, linear_from, notes = yardstick_codes(engine, split, model, data, kbits)
        codes += more
        if more:
            measured += measure_codes(engine, split, passages, more, slow, "measuring other codes")
    return Compared(passages, codes, measured, octave_edges(split.rate), linear_from, notes)


def measure_codes(
    engine: Engine,
    split: Split,
    passages: list[Passage],
    codes: list[Code],
    slow: set[int] | None,
    title: str = "measuring passages",
) -> list[Columns]:
    """Measures codes on passages; the same result on every process.

    Args:
        engine: The processes.
        split: The split of the passages.
        passages: At least one.
        codes: The codes.
        slow: The places of the passages on which ViSQOL is measured, and on all of them Zimtohrli; None for neither.
        title: Title of the progress bar.

    Returns:
        By code, in their order, the columns of `Compared`.
    """

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        (place,) = rows.tolist()
        passage = passages[place]
        reference = passage_audio(split, passage)
        found: dict[str, Tensor] = {}
        for number, code in enumerate(codes):
            coded = code.run(reference)
            values = measure_passage(reference, coded.audio, split.rate) | {"bits": coded.bits}
            if slow is not None:
                values |= measure_perceptual(reference, coded.audio, split.rate, place in slow)
            found |= {f"{number}|{name}": torch.tensor(np.array([value])) for name, value in values.items()}
        return found

    table = whole_table(engine, title, len(passages), columns, at_a_time=1)
    by_code: list[Columns] = [{} for _ in codes]
    for key, values in table.items():
        number, _, name = key.partition("|")
        by_code[int(number)][name] = values
    return by_code


def packed_rate(columns: Columns, passages: list[Passage], split: Split) -> float:
    """The rate of a code in kbit/s: its bits of all passages over their length."""
    seconds = sum(passage.length for passage in passages) / split.rate
    return float(columns["bits"].astype(np.float64).sum() / seconds / 1000)


def passage_audio(split: Split, passage: Passage) -> np.ndarray:
    """The samples of a passage, [length] or [2, length] float32; a chunk may be longer."""
    return join_chunks(split, passage.source, passage.first, passage.length / split.rate)[..., : passage.length]


def through(model: Autoencoder, audio: np.ndarray) -> np.ndarray:
    """A passage, [T] or [2, T], as reconstructed by a model in one piece: of the same shape, float32."""
    return reconstruct_recording(model, torch.from_numpy(audio)).cpu().numpy()


def as_file(model: Autoencoder, audio: np.ndarray) -> Coded:
    """A passage, [T] or [2, T], as decoded from the bytes of a file of it."""
    coded = compress_recording(model, torch.from_numpy(audio))
    return Coded(decompress_recording(model, coded).cpu().numpy(), coded.bits_per_second * coded.seconds)


def measure_passage(reference: np.ndarray, output: np.ndarray, rate: int) -> dict[str, float | np.ndarray]:
    """The measures MEASURES and BY_BAND of an output, [T] or [2, T]."""
    pair = [torch.from_numpy(np.ascontiguousarray(np.atleast_2d(audio))).unsqueeze(0) for audio in (output, reference)]
    whole = {name: value.item() for name, value in measure(pair[0], pair[1], rate).items() if name in MEASURES}
    return whole | band_errors(reference, output, rate)
