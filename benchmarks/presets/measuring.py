"""What files of models sound like on held-out passages, beside Opus on the same passages."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

import audiovae
from benchmarks.trials.table import MEASURES
from train.evaluation.measuring.heldout import open_audio
from train.evaluation.yardsticks.codes import Code
from train.evaluation.yardsticks.comparing import OPUS_KBITS, as_file, measure_codes, opus_at, packed_rate
from train.evaluation.yardsticks.passages import choose_passages, for_visqol
from train.parallel.engine import Engine


def measure_files(data: Path, models: Mapping[str, Path], perceptual: bool) -> dict[str, dict[str, float]]:
    """The measures of the files of models, and of Opus, by name; means over passages of the held-out recordings.

    Args:
        data: The shards.
        models: Model folders by name.
        perceptual: Whether to measure Zimtohrli and ViSQOL.
    """
    split = open_audio(str(data), "valid")
    passages = choose_passages(split, np.zeros(len(split), bool))
    codes = [_files_of(name, folder) for name, folder in models.items()]
    codes += [opus_at(kbits, split.rate) for kbits in OPUS_KBITS]
    slow = for_visqol(len(passages)) if perceptual else None
    found = {}
    for code, columns in zip(codes, measure_codes(Engine(), split, passages, codes, slow), strict=True):
        row = {name: float(np.nanmean(columns[name])) for name in MEASURES if name in columns}
        found[code.name] = row | {"kbit_per_second": packed_rate(columns, passages, split)}
    return found


def _files_of(name: str, folder: Path) -> Code:
    model = audiovae.load(folder).eval()
    return Code(name, "file", lambda audio: as_file(model, audio), {})
