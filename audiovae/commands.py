"""The commands of `python -m audiovae` as functions; the command line takes its arguments and help from them."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.export_stream import export_stream
from audiovae.inputs import check_input, check_temperature
from audiovae.models.autoencoder import Autoencoder
from audiovae.output import check_apart
from audiovae.recordings.audio_file import check_wav, read_recording, write_recording
from audiovae.recordings.compressed import LARGEST_STEP, SMALLEST_STEP, STEP
from audiovae.recordings.compressed_file import CompressedRecording
from audiovae.recordings.files import (
    BLOCK,
    LARGEST_BLOCK,
    check_encoded_file,
    decode_file,
    encode_file,
    reconstruct_file,
    stream_file,
)
from audiovae.recordings.generated import check_drawing, generate_recordings
from audiovae.recordings.latents import CodedRecording
from audiovae.recordings.overlap_add import interpolate_recordings, sample_chunks
from audiovae.saved.export import export_model
from audiovae.saved.model_folder import check_device, load
from audiovae.saved.prior_folder import load_prior
from audiovae.streaming.stepper import NotCausalError
from shards.text import printable

GAP_S = 0.25  # seconds of silence between the parts of a file
MAX_PARTS = 1000


def reconstruct(
    model: Path,
    input: Sequence[Path],
    output: str,
    device: str = "cpu",
    overlap: float = 0.25,
    one_pass: bool = False,
) -> None:
    """Pass recordings through a trained model and write the reconstructions as WAV files.

    Example: python -m audiovae reconstruct runs/hvae song.flac song-hvae.wav

    Args:
        model: A run folder, or a folder with config.json and model.safetensors.
        input: Recordings in any format that libsndfile or FFmpeg read, at any sample rate and of any length.
        output: For one recording: the WAV file to write, at the model's rate. For several recordings, or if the
            name ends in / or is a folder: the folder to write NAME.wav into; it is created if it does not exist.
        device: cpu or cuda.
        overlap: Share of each chunk that is cross-faded with the next chunk, 0 to 0.5.
        one_pass: Take recordings in one pass where the model allows it, without chunks, as `encode` does.
    """
    many = len(input) > 1 or output.endswith("/") or Path(output).is_dir()
    targets = targets_in(output, input) if many else [Path(output)]
    for target in targets:
        check_apart(target, *input)
        check_wav(target)
    check(device, overlap)
    if not many:
        check_input(input[0], "audio")
    loaded = load(model, device)
    failed = 0
    for source, target in zip(input, targets, strict=True):
        try:
            seconds = reconstruct_file(loaded, source, target, None if one_pass else overlap)
            say(f"{target}: {seconds:.1f} s at {loaded.rate} Hz, {loaded.family} of {model}")
        except ModelError as error:
            if not many:
                raise
            failed += 1
            print(f"error: {error}", file=sys.stderr, flush=True)
    if failed:
        raise ModelError(f"{failed} of {len(input)} recordings failed; see the errors above")


def stream(model: Path, input: Path, output: Path, block: int = BLOCK, device: str = "cpu") -> None:
    """Pass a recording through a causal model block by block, and print latency and real-time factor.

    Example: python -m audiovae stream runs/causal song.flac song-causal.wav --block 512

    Args:
        model: A run folder, or a folder with config.json and model.safetensors, of a model with trunk.causal.
        input: A recording in any format that libsndfile or FFmpeg read, at any sample rate and of any length.
        output: The WAV file to write, at the model's rate, mono or stereo as the model is. It is as long as the input
            and in time with it.
        block: Samples that the model gets at once, 1 to 1,048,576.
        device: cpu or cuda.
    """
    check_apart(output, input)
    check_wav(output)
    check_input(input, "audio")
    check_device(device)
    if not 1 <= block <= LARGEST_BLOCK:
        raise ModelError(f"--block {block}: choose 1 to {LARGEST_BLOCK:,}")
    loaded = load(model, device)
    try:
        done = stream_file(loaded, input, output, block)
    except NotCausalError as error:
        raise ModelError(f"{model}: {error}") from None
    say(f"{output}: {done.seconds:.1f} s at {done.rate} Hz in blocks of {block} samples, {loaded.family} of {model}")
    say(
        f"latency {done.latency} samples, {1000 * done.latency / done.rate:.1f} ms; real-time factor "
        f"{done.real_time_factor:.3f} ({device}, {torch.get_num_threads()} threads)"
    )


def encode(
    model: Path,
    input: Path,
    output: Path,
    device: str = "cpu",
    step: float = STEP,
    overlap: float | None = None,
    precision: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a recording in few bits, or its exact latents. `decode` makes audio of either.

    Example: python -m audiovae encode runs/vqvae song.flac song.coded

    Args:
        model: A run folder, or a folder with config.json and model.safetensors.
        input: A recording in any format that libsndfile or FFmpeg read, at any sample rate and of any length.
        output: The file to write. NAME.coded has quantised latents or codes behind an entropy coder. NAME.safetensors
            has exact latents, which decode to what `reconstruct` writes, many times larger.
        device: cpu or cuda.
        step: For .coded: steps of real latents in posterior deviations, 0.125 to 32. More is smaller and noisier; 3.46
            has the noise of a draw from the posterior.
        overlap: Share of each chunk that is stored twice for the cross-fade, 0 to 0.5. By default a .coded file takes
            the recording in one pass where the model allows it and 0.02 elsewhere, a .safetensors file 0.25.
        precision: For .safetensors: number format of continuous latents; float16 halves the file.
    """
    check_apart(output, input)
    check_encoded_file(output)
    check_input(input, "audio")
    check(device, overlap or 0.0)
    if not SMALLEST_STEP <= step <= LARGEST_STEP:
        raise ModelError(f"--step {step}: choose {SMALLEST_STEP:g} to {LARGEST_STEP:g}")
    loaded = load(model, device)
    coded = encode_file(loaded, input, output, overlap, precision, step)
    size = output.stat().st_size
    say(
        f"{output}: {coded.seconds:.1f} s as {what_is_stored(loaded, coded)}, {size:,} bytes, "
        f"{coded.bits_per_second / 1000:.4g} kbit/s (16-bit samples: {16 * coded.rate / 1000:.4g}), "
        f"{loaded.family} of {model}"
    )


def what_is_stored(model: Autoencoder, coded: CodedRecording | CompressedRecording) -> str:
    """The latents of a file in words, for the line of `encode`."""
    shapes = " + ".join(f"{channels} x {frames}" for channels, frames in model.latent_shapes)
    if isinstance(coded, CompressedRecording):
        how = "in one pass" if coded.fade < 0 else f"in chunks of {shapes} that share {coded.fade} samples"
        return f"entropy-coded {'codes' if model.code_size else 'latents'} {how}"
    kind = f"codes of {coded.bits_each} bits" if coded.code_size else f"{coded.latents[0].dtype} values".split(".")[1]
    return f"{len(coded.latents[0])} chunks of {shapes} {kind}"


def decode(model: Path, input: Path, output: Path, device: str = "cpu") -> None:
    """Make a WAV file from the latents that `encode` wrote.

    Example: python -m audiovae decode runs/vqvae song.coded song-vqvae.wav

    Args:
        model: The model that encoded the file: a run folder, or a folder with config.json and model.safetensors.
        input: The .coded or .safetensors file that `encode` wrote.
        output: The WAV file to write, at the model's rate, mono or stereo as the model is.
        device: cpu or cuda.
    """
    check_apart(output, input)
    check_wav(output)
    check_input(input, "latents")
    check(device)
    loaded = load(model, device)
    coded = decode_file(loaded, input, output)
    say(f"{output}: {coded.seconds:.1f} s at {loaded.rate} Hz, {loaded.family} of {model}")


def interpolate(
    model: Path, first: Path, second: Path, output: Path, steps: int = 5, device: str = "cpu", overlap: float = 0.25
) -> None:
    """Interpolate between two recordings in a trained model's latent space and write all versions to one WAV file.

    Example: python -m audiovae interpolate runs/hvae piano.wav guitar.wav between.wav --steps 7

    Args:
        model: A run folder, or a folder with config.json and model.safetensors.
        first: The first recording.
        second: The last recording. The longer of the two is cut to the length of the other.
        output: The WAV file to write: one version for each step, with a quarter of a second of silence in between.
        steps: Number of versions including both ends, 2 to 1000.
        device: cpu or cuda.
        overlap: Share of each chunk that is cross-faded with the next chunk, 0 to 0.5.
    """
    check_apart(output, first, second)
    check_wav(output)
    for end in (first, second):
        check_input(end, "audio")
    check(device, overlap)
    if not 2 <= steps <= MAX_PARTS:
        raise ModelError(f"--steps {steps}: choose 2 to {MAX_PARTS}")
    loaded = load(model, device)
    ends = [read_recording(path, loaded.rate, loaded.audio_channels) for path in (first, second)]
    weights = [float(weight) for weight in np.linspace(0, 1, steps)]
    write(output, interpolate_recordings(loaded, ends[0], ends[1], weights, overlap), loaded, model)


def sample(
    model: Path, output: Path, count: int = 8, temperature: float = 1.0, seed: int = 0, device: str = "cpu"
) -> None:
    """Sample chunks from a trained model's prior and write them to one WAV file.

    Example: python -m audiovae sample runs/hvae drawn.wav --temperature 0.8

    Args:
        model: A run folder, or a folder with config.json and model.safetensors.
        output: The WAV file to write, with a quarter of a second of silence between the chunks.
        count: Number of chunks, 1 to 1000.
        temperature: Factor on the prior's standard deviation, 0 to 10. Values below 1 give more typical chunks.
        seed: Seed of the random numbers.
        device: cpu or cuda.
    """
    check_wav(output)
    check(device)
    if not 1 <= count <= MAX_PARTS:
        raise ModelError(f"--count {count}: choose 1 to {MAX_PARTS}")
    check_temperature(temperature, "--temperature")
    loaded = load(model, device)
    write(output, sample_chunks(loaded, count, temperature, seed), loaded, model)


def generate(
    prior: Path,
    output: Path,
    count: int = 8,
    seconds: float = 10.0,
    temperature: float = 1.0,
    seed: int = 0,
    continue_from: Path | None = None,
    lead_to: Path | None = None,
    label: str | None = None,
    guidance: float = 1.0,
    autoencoder: Path | None = None,
    device: str = "cpu",
) -> None:
    """Draw new recordings from a trained prior and write each to a WAV file of a folder.

    Example: python -m audiovae generate runs/prior new/ --count 4 --seconds 30

    Args:
        prior: The run of a prior, its model folder or one of its checkpoints.
        output: The folder to write 000.wav, 001.wav, ... into; it is created if it does not exist.
        count: Number of recordings, 1 to 1000.
        seconds: Length of each; with --continue_from, of what follows; with --lead_to, of what lies between the two.
        temperature: 0.05 to 10. Values below 1 give more typical recordings.
        seed: Seed of the random numbers; a recording of a seed does not depend on the count.
        continue_from: A recording that all of them continue; each file begins with it.
        lead_to: With --continue_from, a recording that all of them lead to; each file ends with it. For priors of a VAE
            or an HVAE.
        label: What to draw, one of the labels that the prior has learned (train encode --labels).
        guidance: How much the label counts, 0 to 20. Above 1, recordings are more typical of it and more alike.
        autoencoder: A run or model folder of the autoencoder; by default the copy beside the prior.
        device: cpu or cuda.
    """
    if output.is_file():
        raise ModelError(f"{output}: is a file; name a folder")
    if not 1 <= count <= MAX_PARTS:
        raise ModelError(f"--count {count}: choose 1 to {MAX_PARTS}")
    check(device)
    check_drawing(seconds, temperature)
    targets = [output / f"{number:03d}.wav" for number in range(count)]
    if lead_to is not None and continue_from is None:
        raise ModelError("--lead_to needs --continue_from, the recording to come from")
    ends = (continue_from, lead_to)
    for path in filter(None, ends):
        check_input(path, "audio")
        for target in targets:
            check_apart(target, path)
    loaded, model = load_prior(prior, autoencoder, device)
    start, end = (None if path is None else read_recording(path, model.rate, model.audio_channels) for path in ends)
    what = loaded.full_name if label is None else f"{label}, {loaded.full_name}"
    begin = time.monotonic()
    found = generate_recordings(loaded, model, count, seconds, temperature, seed, start, label, guidance, end)
    spent = time.monotonic() - begin
    for target, audio in zip(targets, found, strict=True):
        write_recording(target, audio, model.rate)
        say(f"{target}: {audio.shape[-1] / model.rate:.1f} s at {model.rate} Hz, {what} of {prior}")
    drawn = f"{count} recording{'s' * (count > 1)} of {seconds:.1f} s"
    say(f"{drawn} in {spent:.0f} s: {count * seconds / spent:.1f} s of audio a second")


def export(
    model: Path, output: Path, format: Literal["torch", "torchscript", "onnx"] = "torch", stream: bool = False
) -> None:
    """Export encoder and decoder as programs that run without this package, and compare them with the model.

    Example: python -m audiovae export runs/vae vae-onnx --format onnx

    Args:
        model: A run folder, or a folder with config.json and model.safetensors.
        output: The folder to write encoder, decoder and export.json into.
        format: torch writes .pt2 files of torch.export; torchscript writes .ts files for hosts that load TorchScript.
            onnx needs: pip install onnx onnxscript onnxruntime.
        stream: For causal models: programs that take one frame and their state, and return the next state.
    """
    loaded = load(model)
    try:
        written = export_stream(loaded, output, format) if stream else export_model(loaded, output, format)
    except NotCausalError as error:
        raise ModelError(f"{model}: {error}") from None
    for file, difference in written.items():
        say(f"{output / file}: differs from {'the stream' if stream else 'PyTorch'} by at most {difference:.2g}")
    say(f"{output / 'export.json'}: describes inputs and outputs, {loaded.family} of {model}")


COMMANDS: dict[str, Callable[..., None]] = {
    "reconstruct": reconstruct,
    "stream": stream,
    "encode": encode,
    "decode": decode,
    "interpolate": interpolate,
    "sample": sample,
    "generate": generate,
    "export": export,
}


def targets_in(folder: str, sources: Sequence[Path]) -> list[Path]:
    """The WAV file in the folder for each recording.

    Raises:
        ModelError: if two recordings would have the same file, or `folder` does not name a folder.
    """
    if Path(folder).is_file():
        raise ModelError(f"{folder}: is a file; several recordings need a folder as the last argument")
    if not folder.endswith("/") and not Path(folder).is_dir() and Path(folder).suffix.lower() == ".wav":
        raise ModelError(f"{folder}: several recordings need a folder as the last argument; end its name in /")
    stem, times = Counter(source.stem for source in sources).most_common(1)[0]
    if times > 1:
        raise ModelError(f"{times} recordings would become {Path(folder, stem)}.wav; run the command once for each")
    return [Path(folder, f"{source.stem}.wav") for source in sources]


def check(device: str, overlap: float = 0.0) -> None:
    """Checks arguments before a model is loaded.

    Raises:
        ModelError: if the overlap is out of range or there is no such device.
    """
    if not 0 <= overlap <= 0.5:
        raise ModelError(f"--overlap {overlap}: choose 0 to 0.5")
    check_device(device)


def write(output: Path, parts: Sequence[Tensor], loaded: Autoencoder, model: Path) -> None:
    """Writes parts one after the other to a 16-bit WAV file and prints a summary line; raises ModelError."""
    gap = torch.zeros(*parts[0].shape[:-1], int(GAP_S * loaded.rate))
    audio = torch.cat([piece for part in parts for piece in (gap, part)][1:], dim=-1)
    write_recording(output, audio, loaded.rate)
    say(f"{output}: {audio.shape[-1] / loaded.rate:.1f} s at {loaded.rate} Hz, {loaded.family} of {model}")


def say(line: str) -> None:
    """Prints a line; names of files in it may be a stranger's."""
    print(printable(line), flush=True)
