"""The recordings: music and speech from Debian, held out by file."""

from pathlib import Path

from shards.building.build import build
from shards.errors import DataError

SOURCES = {
    "music": (Path("/usr/share/games/etr/music"), "extremetuxracer-data"),
    "speech": (Path("/usr/share/asterisk/sounds/en_US_f_Allison"), "asterisk-core-sounds-en-wav"),
}
HELD_OUT = 0.3


def make_shards(folder: Path) -> Path:
    """Shards of all recordings, under the names of SOURCES; made once.

    Raises:
        DataError: when a package is not installed.
    """
    data = folder / "data"
    if (data / "dataset.json").exists():
        return data
    missing = [package for path, package in SOURCES.values() if not path.is_dir()]
    if missing:
        raise DataError(f"the recordings are not there: apt-get install {' '.join(missing)}")
    audio = folder / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    for name, (path, _) in SOURCES.items():
        if not (audio / name).is_symlink():
            (audio / name).symlink_to(path)
    build(audio, data, valid=HELD_OUT)
    return data
