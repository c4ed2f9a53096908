"""The KL warm-up of short trainings."""

from pathlib import Path

import yaml

# Of the steps; the warm-ups of the presets are made for longer runs.
SHARE = 0.25


def warmup_words(preset: str, steps: int) -> list[str]:
    """Flags for a warm-up over a quarter of the steps; none if the preset, a file, has no warm-up."""
    settings = yaml.safe_load(Path(preset).read_text(encoding="utf-8"))
    if settings.get("kl_warmup", {}).get("steps") == 0:
        return []
    return ["--kl_warmup.steps", str(int(SHARE * steps))]
