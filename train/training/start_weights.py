"""The weights of another model that a new run starts from."""

from pathlib import Path

import audiovae
from audiovae import Autoencoder, ModelError
from audiovae.models.parts import Taken, check_parts, freeze, take
from shards.text import printable
from train.config import StartConfig
from train.errors import TrainError
from train.optim.settings import OptimConfig, factors_of
from train.parallel.engine import Engine
from train.runs.latest_model import folder_of_weights, load_weights
from train.runs.run_folder import RunDir

REMEDY = (
    "leave out the settings of the model, so that they come from there, or name parts that fit in --start_from.only"
)


def start_from(config: StartConfig, model: Autoencoder, run: RunDir, engine: Engine) -> bool:
    """Gives the model of a new run the weights that the settings name; a run with checkpoints has its own.

    Every process reads them.

    Returns:
        Whether statistics of recordings came along, so that none have to be computed.

    Raises:
        TrainError: when there is no intact model, or it does not fit.
    """
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
    engine.on_main(lambda: run.note_start(noted))
    if engine.is_main:
        print(printable(described(folder, taken, source, model)), flush=True)
    return taken.calibrated


def described(folder: Path, taken: Taken, source: Autoencoder, model: Autoencoder) -> str:
    """What a model takes from another, in lines."""
    lines = [
        f"starts from {folder}",
        f"  taken: {_counts(taken.values)}",
        f"  random: {_counts(taken.new) or 'nothing'}",
    ]
    if source.rate != model.rate:
        lines.append(f"  it was trained at {source.rate:,} Hz, and these chunks have {model.rate:,} Hz")
    if source.samples != model.samples:
        lines.append(f"  it was trained on chunks of {source.samples:,} samples, and these have {model.samples:,}")
    return "\n".join(lines)


def _counts(values: dict[str, int]) -> str:
    return ", ".join(f"{part} ({count:,} values)" for part, count in values.items())


def freeze_parts(config: OptimConfig, model: Autoencoder) -> None:
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


def check_codebooks(config: OptimConfig, model: Autoencoder) -> None:
    """Raises TrainError when codebooks are frozen that have not started: they never would."""
    if any(getattr(module, "frozen", False) and not getattr(module, "quantizing", True) for module in model.modules()):
        raise TrainError(
            f"optim.freeze {config.freeze}: the codebooks have not started yet; freeze them only with --start_from"
        )
