"""`python -m audiovae reconstruct MODEL INPUT OUTPUT`: use a trained model on recordings."""

import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from jsonargparse import auto_cli

from audiovae.weights import ModelError, load
from audiovae.whole import reconstruct_recording


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
    if not 0 <= overlap <= 0.5:
        raise ModelError(f"--overlap {overlap}: choose 0 to 0.5")
    if output.suffix.lower() != ".wav":
        raise ModelError(f"{output}: the output is a WAV file, name it .wav")
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise ModelError(f"--device {device}: choose cpu, or cuda where there is a GPU")
    loaded = load(model, device)
    try:
        audio, rate = soundfile.read(input, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ModelError(f"{input}: cannot be read as audio ({error})") from None
    mono = soxr.resample(audio.mean(1), rate, loaded.rate, quality="HQ")
    if not len(mono) or not np.isfinite(mono).all():
        raise ModelError(f"{input}: holds no audio, or values that are not finite")
    result = reconstruct_recording(loaded, torch.from_numpy(mono), overlap)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(output, result.numpy().clip(-1, 1), loaded.rate, subtype="PCM_16")
    except (soundfile.LibsndfileError, OSError) as error:
        raise ModelError(f"{output}: cannot be written ({error})") from None
    print(f"{output}: {len(result) / loaded.rate:.1f} s at {loaded.rate} Hz, {loaded.family} of {model}")


def main() -> int:
    """Runs the command line; returns the exit code."""
    try:
        auto_cli({"reconstruct": reconstruct}, prog="python -m audiovae", description=__doc__)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
