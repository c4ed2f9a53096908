"""Copies and splits, decided when all recordings of a plan are decoded."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shards.building import report
from shards.building.plan import Plan, Settings, assign_splits, given
from shards.copies.matching import matches
from shards.copies.prints import Print, load_prints
from shards.errors import DataError
from shards.manifest import Listed, Source
from shards.splits.units import joined

STRONG = 0.35  # share of common landmarks that notes or loops alone do not have


def load_all(folder: Path, listed: Sequence[Listed], new: bool = False) -> list[Print]:
    """The acoustic fingerprints in files of a folder.

    One that is missing or damaged is named in a remark. If it is ``new``, this build has just made it: then it is
    removed, so that it is made again, and DataError is raised. Raises OSError when the disk does not give a file.
    """
    found = []
    for one in listed:
        try:
            found += load_prints(folder / one.file)
        except DataError as error:
            if new:
                (folder / one.file).unlink(missing_ok=True)
                raise DataError(f"{error}: run the same command again to make it again") from None
            report.line(f"{error}: its recordings are not compared with others")
    return found


def find_copies(sources: dict[int, Source], prints: Sequence[Print]) -> dict[int, int]:
    """For each recording with the same sound as an earlier one the row of the first of them.

    ``sources`` are rows of recordings that were kept. Those with the same samples are copies, and those whose acoustic
    fingerprints match. Silence is a copy of nothing. Where more than half of all audio would be one group, only strong
    evidence counts: music of few loops or notes has much in common without being copied.
    """
    audible = {row: source for row, source in sorted(sources.items()) if source.split is not None and not source.silent}
    links: dict[tuple[int, int], float] = {}
    first: dict[str, int] = {}
    for row, source in audible.items():
        if source.audio and first.setdefault(source.audio, row) != row:
            links[first[source.audio], row] = 1.0
    usable = [one for one in prints if one.row in audible]
    found = matches(usable, [audible[one.row].duration_s for one in usable])
    for (one, two), share in found.items():
        low, high = sorted((usable[one].row, usable[two].row))
        links[low, high] = max(share, links.get((low, high), 0.0))
    # The parts of one divided recording are no copies of each other.
    links = {pair: share for pair, share in links.items() if audible[pair[0]].path != audible[pair[1]].path}
    lead = joined(sorted(links))
    seconds: dict[int, float] = {}
    for row, group in lead.items():
        seconds[group] = seconds.get(group, 0.0) + audible[row].duration_s
    half = math.fsum(source.duration_s for source in audible.values()) / 2
    wide = {group for group, length in seconds.items() if length > half}
    weak = {row for pair, share in links.items() if lead[pair[0]] in wide and share < STRONG for row in pair}
    if weak:
        report.line(
            f"warning: {len(weak)} recordings, more than half of the audio, have sound in common: few notes, loops, or "
            "copies of one recording. They are treated as different unless nearly all of their sound is the same; use "
            "--group-by to keep related recordings together"
        )
    lead = joined(sorted(pair for pair, share in links.items() if lead[pair[0]] not in wide or share >= STRONG))
    return {row: group for row, group in sorted(lead.items()) if group != row}


def settled(plan: Plan, old: Sequence[Source], made: dict[int, Source], prints: Sequence[Print]) -> Plan:
    """The plan with the copies that were found, and with the splits that follow from them.

    Recordings that turned out to be unreadable have no influence on the splits any more.
    """
    settings: Settings = plan.settings
    copies = find_copies(dict(enumerate(old)) | made, prints)
    kept = {row: one for row, one in plan.sources.items() if row in made and made[row].split is not None}
    links = copies.items() if settings.copies == "together" and not given(settings) else ()
    split = assign_splits(settings, kept, old, links)
    sources = {row: replace(one, split=split.get(row, one.split)) for row, one in plan.sources.items()}
    return replace(plan, sources=sources, copies=copies, settled=True)
