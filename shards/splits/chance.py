"""Splits by chance: recordings are held out by a hash of their content, so that adding others moves none."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

HELD_OUT = ("valid", "test")
NEAR = 0.25  # by which the held-out share may differ before it is corrected


@dataclass(frozen=True)
class Unit:
    """Recordings that stay together.

    Attributes:
        key: Hexadecimal hash that decides; another one for each unit.
        seconds: Their length.
        fills: Whether one of them is at least as long as a chunk.
    """

    key: str
    seconds: float
    fills: bool = True


def draw(units: Iterable[Unit], shares: Mapping[str, float], there: Mapping[str, float]) -> dict[str, str]:
    """The splits of units by their keys.

    The hash of a unit decides. Where the held-out audio is then more than a quarter below or above its share, units
    move in the order of their hashes. None is held out that is longer than twice what is to be held out or than half of
    all, unless there is no other choice; something stays for training.

    Args:
        units: What is to be divided.
        shares: Of the audio by split, `valid` and `test`.
        there: Seconds by split that the data set holds already.
    """
    ordered = sorted(units, key=lambda unit: unit.key)
    split = {unit.key: _by_hash(unit.key, shares) for unit in ordered}
    total = sum(unit.seconds for unit in ordered) + sum(there.values())
    for name in HELD_OUT:
        wanted = shares.get(name, 0.0) * total - there.get(name, 0.0)
        _correct(ordered, split, name, wanted, longest=min(2 * max(wanted, 0.0), total / 2))
    for name in HELD_OUT:
        if shares.get(name, 0.0) > 0 and not there.get(name) and name not in split.values():
            _fill(ordered, split, name, shares[name] * total, bool(there.get("train")))
    if ordered and not there.get("train") and "train" not in split.values():
        longest = max(ordered, key=lambda unit: (unit.seconds, unit.key))
        split[longest.key] = "train"
    return split


def _by_hash(key: str, shares: Mapping[str, float]) -> str:
    place, edge = int(key[:13], 16) / 16**13, 0.0
    for name in HELD_OUT:
        edge += shares.get(name, 0.0)
        if place < edge:
            return name
    return "train"


def _correct(ordered: list[Unit], split: dict[str, str], name: str, wanted: float, longest: float) -> None:
    """Brings the seconds of a held-out split near to what is wanted, with units of at most `longest` seconds."""
    held = [unit for unit in ordered if split[unit.key] == name]
    amount = sum(unit.seconds for unit in held)

    def move(unit: Unit, to: str) -> float:
        split[unit.key] = to
        return unit.seconds if to == name else -unit.seconds

    for unit in held:
        if unit.seconds > longest:
            amount += move(unit, "train")
    for unit in reversed(held):
        nearer = abs(amount - unit.seconds - wanted) < amount - wanted
        if split[unit.key] == name and amount > (1 + NEAR) * wanted and nearer:
            amount += move(unit, "train")
    for unit in ordered:
        if amount >= (1 - NEAR) * wanted:
            return
        fits = unit.seconds <= longest and amount + unit.seconds <= (1 + NEAR) * wanted
        if split[unit.key] == "train" and unit.fills and fits:
            amount += move(unit, name)


def _fill(ordered: list[Unit], split: dict[str, str], name: str, wanted: float, has_training: bool) -> None:
    """Gives an empty split the unit whose length is nearest to what is wanted."""
    spare = [unit for unit in ordered if split[unit.key] == "train"]
    if not has_training and spare:
        spare.remove(max(spare, key=lambda unit: (unit.seconds, unit.key)))
    fitting: Callable[[Unit], tuple] = lambda unit: (not unit.fills, abs(unit.seconds - wanted), unit.key)  # noqa: E731
    if spare:
        split[min(spare, key=fitting).key] = name
