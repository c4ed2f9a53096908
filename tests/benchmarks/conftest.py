"""A small data set for benchmarks that train."""

import numpy as np
import pytest
import soundfile

from shards.building.build import build


@pytest.fixture
def noise_shards(tmp_path):
    """Shards of four recordings of noise, 4 s each, one of them held out."""
    rng = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    for name in range(4):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", 0.1 * rng.standard_normal(4 * 22050), 22050)
    build(tmp_path / "audio", tmp_path / "data", valid=0.25, workers=1)
    return tmp_path / "data"
