"""The data: recordings of music and speech from Debian packages, held out by file."""

from pathlib import Path

from shards import Split
from shards.building.build import build
from shards.errors import DataError

SOURCES = {
    "music": (Path("/usr/share/games/etr/music"), "extremetuxracer-data"),
    "speech": (Path("/usr/share/asterisk/sounds/en_US_f_Allison"), "asterisk-core-sounds-en-wav"),
}
HELD_OUT = 0.3
CHUNKS = (22050, 22050, 1)  # samples, Hz and channels
QUICK_SHARE = 20  # the quick form uses one in 20 of the many short speech recordings


def make_shards(folder: Path, quick: bool) -> Path:
    """Builds shards of all recordings (few if quick) under the names of SOURCES, unless they exist.

    Raises:
        DataError: if a package is not installed.
    """
    data = folder / "data"
    if (data / "dataset.json").exists():
        return data
    missing = [package for path, package in SOURCES.values() if not path.is_dir()]
    if missing:
        raise DataError(f"the recordings are not installed; run: apt-get install {' '.join(missing)}")
    audio = folder / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    for name, (path, _) in SOURCES.items():
        recordings = sorted(file for file in path.rglob("*") if file.suffix in (".ogg", ".wav"))
        (audio / name).mkdir(exist_ok=True)
        for file in recordings[:: QUICK_SHARE if quick and len(recordings) > 100 else 1]:
            link = audio / name / str(file.relative_to(path)).replace("/", "-")
            if not link.is_symlink():
                link.symlink_to(file)
    build(audio, data, valid=HELD_OUT)
    return data


def checked(data: Path) -> Path:
    """The folder of shards; raises DataError if the strides of vae_tiny do not fit its chunks."""
    split = Split.open(str(data), "valid")
    if (split.samples, split.rate, split.channels) != CHUNKS:
        raise DataError(
            f"{data}: {split.channels} x {split.samples:,} samples a chunk at {split.rate:,} Hz: the models need 1 x "
            f"{CHUNKS[0]:,} at {CHUNKS[1]:,} Hz; build shards with --samples {CHUNKS[0]} --rate {CHUNKS[1]}"
        )
    return data
