"""Files of settings: one's own, and the presets that come with the program, by name."""

from importlib import resources
from pathlib import Path

import yaml

from train.errors import TrainError

CONFIGS = resources.files("train") / "configs"


def presets() -> dict[str, Path]:
    """The presets' files by name: vae_tiny, study/mel_vae and so on."""
    root = Path(str(CONFIGS))
    return {str(file.relative_to(root).with_suffix("")): file for file in sorted(root.rglob("*.yaml"))}


def settings_file(name: str) -> Path:
    """The file that `--config NAME` means: a path, or else the name of a preset.

    Raises:
        TrainError: when there is none, or it is no YAML of settings.
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
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        problem = getattr(error, "problem", None) or getattr(error, "strerror", None) or "not text in UTF-8"
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise TrainError(f"--config {name}{place}: cannot be read as YAML ({problem})") from None
    if not isinstance(content, dict):
        raise TrainError(f"--config {name}: holds no settings; lines like `optim.lr: 1e-3`, see docs/configuration.md")
    return path
