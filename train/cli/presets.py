"""Settings files: paths, and the presets in train/configs by name."""

from pathlib import Path

from train.config import CONFIGS
from train.errors import TrainError


def presets() -> dict[str, Path]:
    """Files of the presets by name, such as vae_tiny or study/mel_vae."""
    root = Path(str(CONFIGS))
    return {str(file.relative_to(root).with_suffix("")): file for file in sorted(root.rglob("*.yaml"))}


def settings_file(name: str) -> Path:
    """The file for `--config NAME`, where NAME is a path or else the name of a preset.

    Raises:
        TrainError: when there is no such file or preset.
    """
    path = Path(name)
    if not path.exists():
        known = presets()
        found = known.get(name.removesuffix(".yaml"))
        if found is None:
            same = [preset for preset in known if Path(preset).name == path.stem]
            more = f"the preset: --config {same[0]}" if same else f"presets: {', '.join(known)}"
            raise TrainError(f"--config {name}: there is no such file; {more}")
        return found
    return path
