"""Measures the checkpoint from before the adversarial phase on what the later model was measured on."""

import sys
from dataclasses import dataclass
from pathlib import Path

from audiovae import Autoencoder
from shards import Split
from shards.text import printable
from train.errors import TrainError
from train.evaluation.measuring.chunks import Measured, measure_chunks
from train.evaluation.measuring.sharing import Columns
from train.evaluation.yardsticks.codes import Code, Coded
from train.evaluation.yardsticks.comparing import Compared, measure_codes, through
from train.parallel.engine import Engine
from train.runs import checkpoint
from train.runs.latest_model import before_phase, load_weights
from train.runs.run_folder import RunDir


@dataclass
class Earlier:
    """The model from before the adversarial phase, and its measures.

    Attributes:
        name: The name of its checkpoint.
        step: The step at which the phase began.
        model: The model, in evaluation mode.
        chunks: Measures of its reconstruction of every chunk, with `log_mel_high`.
        passages: The columns of `Compared` for the same passages, without ViSQOL; None without passages.
    """

    name: str
    step: int
    model: Autoencoder
    chunks: Measured
    passages: Columns | None


def checkpoint_before(run: RunDir, name: str) -> Path | None:
    """The checkpoint to compare the weights of this name with; only one process may call it.

    None for weights that are not from after the beginning of an adversarial phase. If the checkpoint is missing or
    damaged, that is None too, and a line on stderr says so.
    """
    path = before_phase(run, name)
    if path is None:
        return None
    try:
        problem = checkpoint.damage(path) if path.is_dir() else "is missing"
    except TrainError as error:  # it names the file
        warn(error)
        return None
    if problem:
        warn(f"{path}: {problem}")
    return None if problem else path


def warn(problem: object) -> None:
    """Says on stderr why the model from before the phase is not measured."""
    line = f"warning: {problem}; without the model from before the adversarial phase the report does not say what "
    print(printable(f"{line}the phase changed (--no-before leaves this out)"), file=sys.stderr)


def measure_earlier(
    engine: Engine, split: Split, model: Autoencoder, path: Path, compared: Compared | None
) -> Earlier | None:
    """Measures a checkpoint on the chunks of a split, and on passages; the same result on every process.

    Args:
        engine: The processes.
        split: The split to measure.
        model: The later model, for its format and its device.
        path: The checkpoint.
        compared: The passages, with the measures of the later model; None without passages.

    Returns:
        None if the model cannot be loaded or measured, after a line on stderr.
    """
    device = next(model.parameters()).device

    def load() -> Autoencoder:
        found = load_weights(path, str(device))
        if (found.samples, found.rate, found.audio_channels) != (model.samples, model.rate, model.audio_channels):
            raise TrainError(f"{path}: its model takes other chunks than that of the run")
        return found

    try:
        earlier = engine.everywhere(load)
        what = "reconstructions from before the adversarial phase"
        chunks = measure_chunks(engine, split, device, earlier.reconstruct, what, with_high=True)
        passages = None
        if compared:
            code = Code("before", "model", lambda audio: Coded(through(earlier, audio)), {})
            slow = set[int]() if "zimtohrli" in compared.columns[0] else None
            title = "measuring passages from before the adversarial phase"
            (passages,) = measure_codes(engine, split, compared.passages, [code], slow, title)
    except TrainError as error:  # on all processes
        if engine.is_main:
            warn(error)
        return None
    return Earlier(path.name, checkpoint.step_of(path), earlier, chunks, passages)
