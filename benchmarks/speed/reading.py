"""Data in memory: our reader compared with the memory bandwidth and with other libraries."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import median

from benchmarks.speed.support.data import make_array, make_shards
from benchmarks.speed.support.rows import Row, compare, skipped
from benchmarks.speed.support.trial import READERS, Trial, Unavailable, in_new_process, rounds

CHUNKS = 32768  # 1.5 GB
UNIT = "chunks/s"


def measure(folder: Path, quick: bool) -> list[Row]:
    """Measures all contenders in turns, each with its fastest number of workers."""
    chunks = 1024 if quick else CHUNKS
    shards = make_shards(folder / f"set-{chunks}", chunks)
    make_array(shards)
    seconds, count, scans = (0.2, 1, 1) if quick else (3.0, 5, 2)
    short = {"folder": shards, "seconds": seconds, "batch": 64 if quick else 256}
    ours = Trial("ours", warm=3 * chunks, **short)  # the checksum of each chunk is verified once
    first = Trial("ours", warm=chunks // 16, chunks=chunks - chunks // 8, **short)
    rivals, missing = {}, {}
    for name, variants in _rivals(short, chunks, quick).items():
        try:
            _prepare(variants, shards)
            rivals[name] = _fastest(variants, scans)
        except Unavailable as why:
            missing[name] = str(why)
    trials = {"ours": ours, "first epoch": first} | {name: trial for name, (_, trial) in rivals.items()}
    rates = {name: median(found) for name, found in rounds(trials, count).items()}
    limit = rates["gather"]
    rows = [
        compare("in memory: bare random gather of a mapped array", rates["ours"], limit, UNIT, 0.8),
        compare("in memory: the same, our first epoch, which verifies checksums", rates["first epoch"], limit, UNIT),
    ]
    for name, target in TARGETS.items():
        title = f"in memory: {name}"
        if name in missing:
            rows.append(skipped(title, UNIT, missing[name], target))
        else:
            rows.append(compare(title, rates["ours"], rates[name], UNIT, target, note=rivals[name][0]))
    return rows


TARGETS = {
    "webdataset, standard (soundfile, float32)": 40,
    "webdataset, standard, but int16": None,
    "webdataset, tuned": 10,
    "litdata, best": 5,
    "mosaicml-streaming": None,
}


def _rivals(short: dict, chunks: int, quick: bool) -> dict[str, dict[str, Trial]]:
    """The variants of each contender; the fastest one is measured."""
    workers = (0,) if quick else (0, 1, 2)
    slow = short | {"warm": chunks // 16}
    fast = short | {"warm": chunks}

    def each(reader: str, **options) -> dict[str, Trial]:
        return {_worded(n): Trial(reader, options=options | {"workers": n}, **slow) for n in workers}

    direct = {"samples copied from the bare dataset": Trial("litdata", options={"workers": 0, "loader": False}, **slow)}
    return {
        "gather": {f"{n} threads": Trial("gather", options={"threads": n}, **fast) for n in (1, 2)},
        "webdataset, standard (soundfile, float32)": each("webdataset_standard", dtype="float32"),
        "webdataset, standard, but int16": each("webdataset_standard"),
        "webdataset, tuned": each("webdataset_tuned"),
        "litdata, best": each("litdata") | direct,
        "mosaicml-streaming": each("mosaicml"),
    }


def _worded(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"


def _prepare(variants: dict[str, Trial], shards: Path) -> None:
    """Writes the data in the library's own format."""
    reader = next(iter(variants.values())).reader
    if reader in ("litdata", "mosaicml"):
        in_new_process(_write_format, reader, shards)


def _write_format(reader: str, shards: Path) -> None:
    try:
        library = import_module(READERS[reader])
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed") from None
    library.prepare(shards)


def _fastest(variants: dict[str, Trial], tries: int) -> tuple[str, Trial]:
    """The variant with the best median rate in a few short runs."""
    if len(variants) == 1:
        return next(iter(variants.items()))
    rates = rounds({name: replace(trial, seconds=trial.seconds / 2) for name, trial in variants.items()}, tries)
    best = max(variants, key=lambda name: median(rates[name]))
    return best, variants[best]
