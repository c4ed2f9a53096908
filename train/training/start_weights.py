"""The weights of another model that a new run starts from."""

from pathlib import Path

import torch
from torch import Tensor

import audiovae
from audiovae import Autoencoder, ModelError
from audiovae.models.parts import Taken, check_parts, freeze, take
from audiovae.quantizing.ema_codebooks import EMACodebooks
from audiovae.trainable import Trainable
from shards.reading.channels import LAYOUTS
from shards.text import printable
from train.adversarial.discriminator import make_discriminator
from train.adversarial.discriminator_file import DISCRIMINATOR_FILE, digest_of, read_discriminator, write_discriminator
from train.config import RunConfig
from train.errors import TrainError
from train.optim.settings import OptimConfig, factors_of
from train.parallel.engine import Engine
from train.runs.checkpoint import write_folder
from train.runs.latest_model import folder_of_weights, load_weights
from train.runs.run_folder import RunDir

REMEDY = (
    "leave out the settings of the model, so that they come from there, or name parts that fit in --start_from.only"
)
# Remedies for a discriminator that cannot be used.
RANDOM = "restore it, or remove it so that the phase begins with a random one"
RESTORE = "restore it, or begin a new run"
# In the run folder: the discriminator with which the adversarial phase begins, if it comes from another run.
START_FOLDER = "start"


def start_from(run_config: RunConfig, model: Trainable, run: RunDir, engine: Engine) -> bool:
    """Gives the model of a new run the weights that the settings name; a run with checkpoints has its own.

    Every process reads them. A discriminator beside them is copied into the run folder.

    Returns:
        Whether statistics of recordings came along, so that none have to be computed.

    Raises:
        TrainError: when there is no intact model, or it does not fit.
    """
    config = run_config.start_from
    if not config.path:
        return False
    folder = engine.on_main(lambda: None if run.has_checkpoints else folder_of_weights(Path(config.path)))
    if folder is None:
        return False
    source = engine.everywhere(lambda: load_weights(folder, "cpu"))
    try:
        taken = take(model, source.state_dict(), config.only)
    except ModelError as error:
        raise TrainError(f"--start_from {config.path}: {error}; {REMEDY}") from None
    noted = {"path": str(folder), "fingerprint": audiovae.fingerprint(source)}
    about = engine.on_main(lambda: _keep_discriminator(run_config, model, run, folder, noted))
    if engine.is_main:
        print(printable(described(folder, taken, source, model) + about), flush=True)
    return taken.calibrated


def _keep_discriminator(config: RunConfig, model: Trainable, run: RunDir, folder: Path, noted: dict[str, str]) -> str:
    """Copies a discriminator that fits, and notes what the run starts from; returns a line for the user."""
    about = ""
    weights = None if config.phase_start is None else _read(folder, RANDOM)
    if weights is not None and config.start_from.only:
        about = "\n  not taken: its discriminator, as --start_from.only names parts of the model"
    elif weights is not None:
        try:
            wanted = make_discriminator(config.adversarial, model.samples, 0, model.audio_channels).state_dict()
        except ValueError as error:
            raise TrainError(str(error)) from None
        if {name: value.shape for name, value in weights.items()} == {k: v.shape for k, v in wanted.items()}:
            shape = config.adversarial.shape
            write_folder(run.path / START_FOLDER, lambda path: write_discriminator(path, weights, shape))
            noted = noted | {"discriminator": digest_of(weights)}
            count = sum(map(torch.numel, weights.values()))
            about = f"\n  taken for the adversarial phase: discriminator ({count:,} values)"
        else:
            about = (
                "\n  not taken: its discriminator, which has other adversarial.windows, .periods or .filters; "
                "the phase begins with a random one"
            )
    run.note_start(noted)
    return about


def first_discriminator(config: RunConfig, run: RunDir, step: int, engine: Engine) -> dict[str, Tensor] | None:
    """The weights with which the discriminator of a run that is at `step` begins; None for random ones.

    Raises:
        TrainError: when the run took some from another run, and its copy is lost or damaged.
    """
    if config.phase_start is None or step > config.phase_start:
        return None

    def read() -> dict[str, Tensor] | None:
        noted = run.record.started_from.get("discriminator")
        if noted is None:
            return None
        weights = _read(run.path / START_FOLDER, RESTORE)
        if weights is None or digest_of(weights) != noted:
            raise TrainError(
                f"{run.path / START_FOLDER / DISCRIMINATOR_FILE}: it is not the discriminator that the run started "
                f"from; {RESTORE}"
            )
        return weights

    return engine.on_main(read)


def _read(folder: Path, remedy: str) -> dict[str, Tensor] | None:
    try:
        return read_discriminator(folder)
    except ValueError as error:
        raise TrainError(f"{error}; {remedy}") from None


def described(folder: Path, taken: Taken, source: Autoencoder, model: Trainable) -> str:
    """What a model takes from another, in lines."""
    lines = [
        f"starts from {folder}",
        f"  taken: {_counts(taken.values)}",
        f"  random: {_counts(taken.new) or 'nothing'}",
    ]
    if source.rate != model.rate:
        lines.append(f"  it was trained at {source.rate:,} Hz, and these chunks have {model.rate:,} Hz")
    if source.audio_channels != model.audio_channels:
        layouts = [LAYOUTS[one.audio_channels] for one in (source, model)]
        lines.append(f"  it was trained on {layouts[0]}, and these chunks are {layouts[1]}")
    if source.samples != model.samples:
        lines.append(f"  it was trained on chunks of {source.samples:,} samples, and these have {model.samples:,}")
    return "\n".join(lines)


def _counts(values: dict[str, int]) -> str:
    return ", ".join(f"{part} ({count:,} values)" for part, count in values.items())


def freeze_parts(config: OptimConfig, model: Trainable) -> None:
    """Makes training leave `optim.freeze` as it is.

    Raises:
        TrainError: when the model has no such part, or none of `optim.part_lr`.
    """
    try:
        freeze(model, config.freeze)
    except ModelError as error:
        raise TrainError(f"optim.freeze: {error}") from None
    try:
        check_parts(model, factors_of(config.part_lr))
    except ModelError as error:
        raise TrainError(f"optim.part_lr: {error}") from None


def check_codebooks(config: RunConfig, model: Trainable) -> None:
    """Raises TrainError when codebooks that have not started are frozen, or will be before they start."""
    waiting = [module for module in model.modules() if isinstance(module, EMACodebooks) and not module.quantizing]
    start, phase = max((module.config.start_step for module in waiting), default=0), config.phase_start
    if waiting and phase is not None and phase <= start:
        raise TrainError(
            f"adversarial.start is step {phase}, but the codebooks start after model.quantizer.start_step = {start}, "
            "as the model of --start_from has none in use: raise the first or lower the second"
        )
    if any(module.frozen for module in waiting):
        raise TrainError(
            f"optim.freeze [{', '.join(config.optim.freeze)}]: the codebooks have not started yet; "
            "freeze them only with --start_from"
        )
