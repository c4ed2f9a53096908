"""Several data sets in fixed shares, as arithmetic: which set a place of the mixture belongs to, and which place of it.

Shares are whole numbers of chunks in a period. Inside a period the chunks of each set are spread evenly: the j-th of a
set with ``a`` of ``A`` places is due at ``(j + 1/2) / a``, and all are sorted by that (Webster's method). At every
place the count of a set is at most ``(1 + number of sets) / 2`` chunks from its share.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd, lcm
from typing import Any

import numpy as np

from shards.errors import DataError
from shards.splitmix import mix

LONGEST_PERIOD = 1 << 16  # shares with a longer one are rounded to it


@dataclass(frozen=True)
class MixedSet:
    """One set of a mixture.

    Attributes:
        fingerprint: Of its split.
        number: Of the sets of the run, in the order in which they came; keys its order.
        parts: Its chunks in a period; 0 while the set is left out.
        begin: Chunks of it that were taken before this mixture began, over all its epochs.
    """

    fingerprint: str
    number: int
    parts: int
    begin: int = 0


@dataclass(frozen=True)
class Mixture:
    """The sets of a run in its present shares; places count from the first chunk of this mixture.

    Raises ValueError for a mixture that cannot be.
    """

    sets: tuple[MixedSet, ...]

    def __post_init__(self) -> None:
        numbers = [one.number for one in self.sets]
        names = [one.fingerprint for one in self.sets]
        if sorted(numbers) != [*range(len(numbers))] or len({*names}) < len(names):
            raise ValueError("the sets of a mixture must be numbered once each, and be different")
        if not 1 <= self.period <= LONGEST_PERIOD or min(one.parts for one in self.sets) < 0:
            raise ValueError(f"a mixture must have 1 to {LONGEST_PERIOD} parts")
        if min(one.begin for one in self.sets) < 0:
            raise ValueError("a set cannot begin before its first chunk")

    @property
    def period(self) -> int:
        """Places after which the pattern of the sets repeats."""
        return sum(one.parts for one in self.sets)

    @cached_property
    def _pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """For each place of a period its set, and how many places of that set come before it."""
        sets = np.repeat(np.arange(len(self.sets)), [one.parts for one in self.sets])
        ranks = np.concatenate([np.arange(one.parts) for one in self.sets])
        parts = np.array([one.parts for one in self.sets])[sets]
        # Equal fractions are equal as floats too, so that no platform orders them otherwise.
        order = np.lexsort((sets, (2 * ranks + 1) / (2 * parts)))
        return sets[order], ranks[order]

    @cached_property
    def _columns(self) -> tuple[np.ndarray, ...]:
        """For each place of a period its set, its rank, and parts and begin of the set: int64 [period] each."""
        sets, ranks = self._pattern
        parts, begins = np.array([(one.parts, one.begin) for one in self.sets], np.int64).T
        return sets, ranks, parts[sets], begins[sets]

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sets of the given places, and the places in them over all their epochs: int64 [n] -> two int64 [n]."""
        cycle, inside = np.divmod(np.asarray(places, np.int64), self.period)
        sets, ranks, parts, begins = (values[inside] for values in self._columns)
        return sets, begins + cycle * parts + ranks

    def taken(self, place: int) -> list[int]:
        """Chunks of each set that were taken before a place, over all its epochs."""
        cycles, inside = divmod(place, self.period)
        counts = np.bincount(self._pattern[0][:inside], minlength=len(self.sets)).tolist()
        return [one.begin + cycles * one.parts + count for one, count in zip(self.sets, counts, strict=True)]

    def to_json(self) -> list[dict[str, Any]]:
        """For the state of a run."""
        return [asdict(one) for one in self.sets]

    @classmethod
    def from_json(cls, content: Any) -> "Mixture":
        """What ``to_json`` gave; raises ValueError where it is something else."""
        if not isinstance(content, list) or not 1 <= len(content) <= 1 << 12:
            raise ValueError("a mixture must be a list of sets")
        kinds = {"fingerprint": str, "number": int, "parts": int, "begin": int}
        for row in content:
            if not isinstance(row, dict) or row.keys() != kinds.keys():
                raise ValueError(f"a set of a mixture must have {', '.join(kinds)}")
            if any(type(row[name]) is not kind for name, kind in kinds.items()) or row["begin"] >= 1 << 60:
                raise ValueError("a set of a mixture has a value of another kind")
        return cls(tuple(MixedSet(**row) for row in content))

    def continued(self, place: int, fingerprints: Sequence[str], parts: Sequence[int]) -> "Mixture":
        """The mixture of other sets, or in other shares, that follows this one from a place on.

        Sets that stay go on where they are. Sets that are left out keep their place, should they come back.
        """
        wanted = dict(zip(fingerprints, parts, strict=True))
        sets = [
            MixedSet(one.fingerprint, one.number, wanted.pop(one.fingerprint, 0), begin)
            for one, begin in zip(self.sets, self.taken(place), strict=True)
        ]
        new = [MixedSet(name, len(sets) + k, share) for k, (name, share) in enumerate(wanted.items())]
        return Mixture((*sets, *new))

    def has(self, fingerprints: Sequence[str], parts: Sequence[int]) -> bool:
        """Whether it takes from these sets, and in these shares."""
        return {one.fingerprint: one.parts for one in self.sets if one.parts} == dict(
            zip(fingerprints, parts, strict=True)
        )


def seed_of(seed: int, number: int) -> int:
    """The seed of a set's order. That of the first set is the run's, so that a run of one set can take in others."""
    return mix(seed, number) if number else seed


def whole_shares(shares: Sequence[Fraction | None], counts: Sequence[int], names: Sequence[str]) -> tuple[int, ...]:
    """Shares as the smallest whole numbers of chunks in a period.

    Where every set has a number, the numbers are weights. Else they are shares of all chunks, and the sets without
    one share the rest by their number of chunks. Periods beyond ``LONGEST_PERIOD`` are rounded to it.

    Args:
        shares: Of the sets, as the user gave them.
        counts: Chunks of the sets.
        names: What the user calls them.

    Raises DataError where nothing is left for a set.
    """
    given = sum((share for share in shares if share is not None), Fraction(0))
    if None not in shares:
        exact = [share / given for share in shares if share is not None]
    else:
        if given >= 1:
            rest = ", ".join(name for name, share in zip(names, shares, strict=True) if share is None)
            raise DataError(
                f"the shares of --data add up to {float(given):g} and leave nothing for {rest}: lower them, or give "
                "every data set a weight"
            )
        free = sum(count for count, share in zip(counts, shares, strict=True) if share is None)
        exact = [
            (1 - given) * Fraction(count, free) if share is None else share
            for share, count in zip(shares, counts, strict=True)
        ]
    period = lcm(*(share.denominator for share in exact))
    parts = [int(share * period) for share in exact]
    if period > LONGEST_PERIOD:
        parts = [max(1, int(share * (LONGEST_PERIOD - len(exact)))) for share in exact]
    common = gcd(*parts)
    return tuple(part // common for part in parts)
