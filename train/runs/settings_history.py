"""The settings of a run over its steps: what changed when the run was resumed with other settings.

`run.json` holds the settings of the newest attempt and the changes that led to them. Only settings that matter to the
training count; those that are free (see `train.config.FREE`) may differ in every attempt.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shards.files import is_whole
from shards.text import printable
from train.config import is_free

# Stands among the settings for the fingerprint of the training split.
DATA = "data_fingerprint"


@dataclass(frozen=True)
class Change:
    """Settings that changed when an attempt resumed a run.

    Attributes:
        attempt: Number of the attempt, from 1.
        step: Steps done at its start; the new settings hold for the steps after it.
        settings: For each dotted key, its values before and after. A value is None where the version of the program
            had no such setting.
    """

    attempt: int
    step: int
    settings: dict[str, tuple[Any, Any]]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Change":
        """The change in an entry of run.json; raises ValueError, KeyError or TypeError when it is none."""
        settings = {str(key): (before, after) for key, (before, after) in content["settings"].items()}
        if not is_whole(content["attempt"]) or not is_whole(content["step"]):
            raise ValueError("a change has no attempt or no step")
        return cls(content["attempt"], content["step"], settings)

    def to_json(self) -> dict[str, Any]:
        """The entry of run.json."""
        return asdict(self)

    def __str__(self) -> str:
        words = ", ".join(
            f"{printable(key)} {shown(before)} -> {shown(after)}" for key, (before, after) in self.settings.items()
        )
        return f"from step {self.step + 1} on (attempt {self.attempt}): {words}"


def shown(value: Any) -> str:
    """A value for people."""
    return "not set" if value is None else printable(value)


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The values before and after of all settings that differ."""
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def undo(settings: dict[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """The settings before these changes, the newest of which led to `settings`."""
    for change in reversed(changes):
        settings = settings | {key: before for key, (before, _) in change.settings.items()}
    return settings


def extended(
    settings: dict[str, Any], changes: Sequence[Change], after: dict[str, Any], attempt: int, step: int
) -> list[Change]:
    """The changes after an attempt begins at a step with the settings `after`.

    Args:
        settings: Those of the attempt before.
        changes: The changes that led to `settings`, oldest first.
        after: The settings of the attempt that begins.
        attempt: Its number.
        step: Steps done at its start. Where damage makes a run resume from before a change, the weights have never
            seen that change, so it goes out of the history.
    """
    kept = [change for change in changes if change.step <= step]
    in_force = undo(settings, changes[len(kept) :])
    difference = {key: values for key, values in changed(in_force, after).items() if not is_free(key)}
    return [*kept, Change(attempt, step, difference)] if difference else kept


def at_step(settings: dict[str, Any], changes: Sequence[Change], step: int) -> dict[str, Any]:
    """The settings with which a step was trained, counted from 1 as in metrics.jsonl."""
    return undo(settings, [change for change in changes if change.step >= step])


def segments(settings: dict[str, Any], changes: Sequence[Change]) -> list[tuple[int, dict[str, Any]]]:
    """The history as (steps done at the start, settings), oldest first; settings that no step used are left out."""
    starts = sorted({0, *(change.step for change in changes)})
    return [(start, at_step(settings, changes, start + 1)) for start in starts]
