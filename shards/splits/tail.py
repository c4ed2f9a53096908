"""The end of a recording held out: where a single long recording, or each of several, is divided."""

from collections.abc import Mapping

from shards.splits.chance import HELD_OUT

LEAST_TRAINING = 0.5  # of a recording; with less it is not divided


def spans(samples: int, chunk: int, shares: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """The parts of a recording by split: first sample and end.

    Training gets the beginning. The held-out parts follow, each behind a gap of one chunk, so that no chunk of two
    splits overlaps or adjoins. A recording that is too short for that is for training as a whole.

    Args:
        samples: Of the recording.
        chunk: Samples of a chunk.
        shares: Of the recording by split, `valid` and `test`.
    """
    found, end = {}, samples
    for name in reversed(HELD_OUT):
        if shares.get(name, 0.0) > 0:
            begin = end - max(chunk, round(shares[name] * samples))
            found[name] = begin, end
            end = begin - chunk
    if end < max(chunk, LEAST_TRAINING * samples * (1 - sum(shares.values()))):
        return {"train": (0, samples)}
    return {"train": (0, end), **{name: found[name] for name in HELD_OUT if name in found}}
