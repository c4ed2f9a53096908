"""Copies and splits, decided when all recordings of a plan are decoded."""

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


def load_all(folder: Path, listed: Sequence[Listed]) -> list[Print]:
    """The acoustic fingerprints in files of a folder; one that is missing or damaged is named in a remark."""
    found = []
    for one in listed:
        try:
            found += load_prints(folder / one.file)
        except DataError as error:
            report.line(f"{error}: its recordings are not compared with others")
    return found


def find_copies(sources: dict[int, Source], prints: Sequence[Print]) -> dict[int, int]:
    """For each recording with the same sound as an earlier one the row of the first of them.

    ``sources`` are rows of recordings that were kept. Those with the same samples are copies, and those whose acoustic
    fingerprints match. Silence is a copy of nothing.
    """
    audible = {row: source for row, source in sorted(sources.items()) if source.split is not None and not source.silent}
    links: list[tuple[int, int]] = []
    first: dict[str, int] = {}
    for row, source in audible.items():
        if source.audio:
            links.append((first.setdefault(source.audio, row), row))
    usable = [one for one in prints if one.row in audible]
    for one, two in matches(usable, [audible[one.row].duration_s for one in usable]):
        low, high = sorted((usable[one].row, usable[two].row))
        links.append((low, high))
    # The parts of one divided recording are no copies of each other.
    links = [(one, two) for one, two in links if one != two and audible[one].path != audible[two].path]
    lead = joined(sorted(links))
    return {row: first for row, first in sorted(lead.items()) if first != row}


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
