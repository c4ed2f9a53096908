"""The data sets of a run: opened by all processes, and the shares in which training takes from them."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from audiovae.priors.latents import LATENTS
from shards import Cursor, DataError, Split
from shards.mixing.mixture import MixedSet, Mixture, whole_shares
from shards.mixing.places import parse_places
from train.config import DataConfig, RunConfig
from train.parallel.engine import Engine
from train.parallel.sharing import shared_manifest, together
from train.runs.run_folder import RunDir
from train.runs.settings_history import DATA, at_step
from train.training.learner import Learner


@contextmanager
def open_splits(data: DataConfig, engine: Engine) -> Iterator[tuple[Split, Split | None]]:
    """Opens the training chunks, and the held-out chunks if there are any. The processes verify the shards together."""
    manifests = [shared_manifest(engine, place.path) for place in parse_places(data.path)]
    layouts = [manifest.settings.get(LATENTS) for manifest in manifests]
    if any(layout != layouts[0] for layout in layouts):
        raise DataError(
            f"{data.place}: these are latents of several models, or latents and audio; make latents of all recordings "
            "at once: python -m train encode RUN 'music/ + speech/' OUT"
        )
    if layouts[0] is not None and any(place.gain_db for place in parse_places(data.path)):
        raise DataError(f"{data.place}: these are latents, which have no level: leave out the gain")
    more: dict[str, Any] = {"scratch": data.scratch, "scratch_bytes": int(data.scratch_gb * 1e9)}
    more |= {"manifests": manifests, "share": (engine.rank, engine.world)}
    with ExitStack() as opened:

        def open_one(name: str) -> Split:
            return opened.enter_context(closing(Split.open(data.path, name, **more)))

        train = together(engine, lambda: open_one("train"))
        shares_of(data, train)  # before there is a run folder
        is_held_out = any(manifest.splits.get("valid") for manifest in manifests)
        yield train, together(engine, lambda: open_one("valid")) if is_held_out else None


def mix_sets(config: RunConfig, split: Split, run: RunDir, learner: Learner) -> None:
    """Gives the learner the shares of its data sets, from its step on.

    Shares as at the step before go on. Other shares, or other sets, begin now: each set goes on where it is, and a new
    one begins at its first chunk. A run of one set that has never had others has no shares.
    """
    names, parts = [one.fingerprint for one in split.sets], shares_of(config.data, split)
    before = learner.mixture
    if before is None:
        if len(names) == 1:
            return
        before, learner.cursor = alone_before(split, run, learner), Cursor()
    if not before.has(names, parts):
        before, learner.cursor = before.continued(learner.cursor.consumed, names, parts), Cursor()
    learner.mixture = before


def shares_of(data: DataConfig, split: Split) -> tuple[int, ...]:
    """The shares of a training split's data sets as whole numbers of chunks in a period; raises DataError."""
    shares = [place.share for place in parse_places(data.path)]
    counts, names = [one.chunks for one in split.sets], [one.name for one in split.sets]
    return (1,) if len(counts) == 1 else whole_shares(shares, counts, names)


def alone_before(split: Split, run: RunDir, learner: Learner) -> Mixture:
    """A run of one data set as a mixture of that set alone, to be continued; in a new run that of its first set."""
    first, begin = split.sets[0], 0
    if learner.step:
        fingerprint = at_step(run.record.settings, run.changes, learner.step)[DATA]
        found = [one for one in split.sets if one.fingerprint == fingerprint]
        if not found:  # the new sets have nothing of the old one
            return Mixture((MixedSet(fingerprint, 0, 1),))
        first = found[0]
        begin = learner.cursor.epoch * first.chunks + learner.cursor.consumed
    return Mixture((MixedSet(first.fingerprint, 0, 1, begin),))


def epochs_of(split: Split, learner: Learner) -> dict[str, float]:
    """How often each data set has been gone through, by name; empty without shares."""
    mixture = learner.mixture
    if mixture is None:
        return {}
    taken = mixture.taken(learner.cursor.consumed)
    chunks = {one.fingerprint: count for one, count in zip(mixture.sets, taken, strict=True)}
    return {one.name: chunks[one.fingerprint] / one.chunks for one in split.sets}


def sets_line(split: Split, mixture: Mixture) -> str:
    """The data sets and their shares, for people."""
    parts = {one.fingerprint: one.parts for one in mixture.sets}
    told = [
        f"{one.name} {100 * parts[one.fingerprint] / mixture.period:.3g} % ({one.chunks:,} chunks"
        + (f", {one.gain_db:+g} dB)" if one.gain_db else ")")
        for one in split.sets
    ]
    return "data sets: " + ", ".join(told)
