"""Use a trained model: reconstruct recordings, interpolate between two, draw from its prior."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from jsonargparse import auto_cli
from torch import Tensor

from audiovae.autoencoder import Autoencoder
from audiovae.weights import ModelError, load
from audiovae.whole import interpolate_recordings, reconstruct_recording, sample_chunks

GAP_S = 0.25  # of silence between the parts of a file
MOST_PARTS = 1000


def reconstruct(model: Path, input: Path, output: Path, device: str = "cpu", overlap: float = 0.25) -> None:
    """Pass a recording through a trained model and write what comes out as WAV.

    Example: python -m audiovae reconstruct runs/hvae song.flac song-hvae.wav

    Args:
        model: A run folder, or a folder with config.json and model.safetensors.
        input: A recording of any format that libsndfile reads, any rate and length.
        output: The WAV file to write, mono at the model's rate.
        device: cpu or cuda.
        overlap: Share of a chunk that is cross-faded with the next one, 0 to 0.5.
    """
    check(output, device, overlap)
    loaded = load(model, device)
    result = reconstruct_recording(loaded, read(input, loaded.rate), overlap)
    write(output, [result], loaded, model)


def interpolate(
    model: Path, first: Path, second: Path, output: Path, steps: int = 5, device: str = "cpu", overlap: float = 0.25
) -> None:
    """Go from one recording to another through a trained model's latents; the versions follow each other in one WAV.

    Example: python -m audiovae interpolate runs/hvae piano.wav guitar.wav between.wav --steps 7

    Args:
        model: A run folder, or a folder with config.json and model.safetensors.
        first: The recording to begin with.
        second: The recording to end with; the longer one of the two is cut.
        output: The WAV file to write: as many versions as steps, a quarter of a second of silence between them.
        steps: Versions, both ends counted: 2 to 1000.
        device: cpu or cuda.
        overlap: Share of a chunk that is cross-faded with the next one, 0 to 0.5.
    """
    check(output, device, overlap)
    if not 2 <= steps <= MOST_PARTS:
        raise ModelError(f"--steps {steps}: choose 2 to {MOST_PARTS}")
    loaded = load(model, device)
    ends = [read(path, loaded.rate) for path in (first, second)]
    weights = [float(weight) for weight in np.linspace(0, 1, steps)]
    write(output, interpolate_recordings(loaded, *ends, weights, overlap), loaded, model)


def sample(
    model: Path, output: Path, count: int = 8, temperature: float = 1.0, seed: int = 0, device: str = "cpu"
) -> None:
    """Draw chunks from a trained model's prior; they follow each other in one WAV.

    Example: python -m audiovae sample runs/hvae drawn.wav --temperature 0.8

    Args:
        model: A run folder, or a folder with config.json and model.safetensors.
        output: The WAV file to write, a quarter of a second of silence between the chunks.
        count: Chunks to draw, 1 to 1000.
        temperature: Scale of the prior's deviation; below 1 is nearer to what is most likely. 0 to 10.
        seed: Another one draws other chunks.
        device: cpu or cuda.
    """
    check(output, device)
    if not 1 <= count <= MOST_PARTS:
        raise ModelError(f"--count {count}: choose 1 to {MOST_PARTS}")
    if not 0 <= temperature <= 10:
        raise ModelError(f"--temperature {temperature}: choose 0 to 10")
    loaded = load(model, device)
    write(output, sample_chunks(loaded, count, temperature, seed), loaded, model)


def check(output: Path, device: str, overlap: float = 0.0) -> None:
    """What can be told before a model is loaded.

    Raises:
        ModelError: for an overlap out of range, an output that is no WAV, a device that is not there.
    """
    if not 0 <= overlap <= 0.5:
        raise ModelError(f"--overlap {overlap}: choose 0 to 0.5")
    if output.suffix.lower() != ".wav":
        raise ModelError(f"{output}: the output is a WAV file, name it .wav")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ModelError(f"--device {device}: choose cpu, or cuda where there is a GPU") from None


def read(path: Path, rate: int) -> Tensor:
    """A recording as [T] float32, mono at `rate`.

    Raises:
        ModelError: when it cannot be read or holds nothing to use.
    """
    try:
        audio, own_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as audio ({error})") from None
    mono = soxr.resample(audio.mean(1), own_rate, rate, quality="HQ")
    if not len(mono) or not np.isfinite(mono).all():
        raise ModelError(f"{path}: holds no audio, or values that are not finite")
    return torch.from_numpy(mono)


def write(output: Path, parts: Sequence[Tensor], loaded: Autoencoder, model: Path) -> None:
    """Parts [T] one after the other as 16-bit WAV, and a line that says so.

    Raises:
        ModelError: when it cannot be written.
    """
    gap = torch.zeros(int(GAP_S * loaded.rate))
    audio = torch.cat([piece for part in parts for piece in (gap, part)][1:])
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(output, audio.numpy().clip(-1, 1), loaded.rate, subtype="PCM_16")
    except (soundfile.LibsndfileError, OSError) as error:
        raise ModelError(f"{output}: cannot be written ({error})") from None
    print(f"{output}: {len(audio) / loaded.rate:.1f} s at {loaded.rate} Hz, {loaded.family} of {model}")


def main() -> int:
    """Runs the command line; returns the exit code."""
    try:
        auto_cli(
            {"reconstruct": reconstruct, "interpolate": interpolate, "sample": sample},
            prog="python -m audiovae",
            description=__doc__,
        )
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
