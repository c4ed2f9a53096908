"""Which recordings are copies of each other, by their acoustic fingerprints."""

from collections.abc import Iterator, Sequence

import numpy as np

from shards.copies.prints import Print

LEAST, LEAST_SHARE = 10, 0.005  # landmarks that copies have in common at one lag: number, and share of the fewer
COMMON = 128  # recordings and places that share a landmark; one that more of them share tells nothing
SHORT_S, SHORT_SHARE = 10.0, 0.1  # the same of recordings that last less, such as two strokes on one cymbal
ALIKE, SAME = 0.7, 0.95  # correlation of the textures of copies, and of copies beyond doubt
TELLING = 192  # bands that have to differ in a texture; decaying tones of one pitch look alike below
LENGTH, MARGIN_S = 0.06, 0.05  # by which copies may differ in length: a share, and seconds
BLOCK = 512  # short recordings compared at a time


def matches(prints: Sequence[Print], seconds: Sequence[float]) -> dict[tuple[int, int], float]:
    """Pairs of places in `prints` of recordings that are copies of each other; `seconds` are their lengths.

    The value of a pair is the share of the landmarks of the one with fewer that the other has, too: 0.4 and more for
    whole copies, less for excerpts. Where textures agree, it is 1 if they are nearly the same, else 0.
    """
    found = dict(_by_textures(prints, seconds))
    for pair, share in _by_landmarks(prints):
        if share < SHORT_SHARE and min(seconds[place] for place in pair) < SHORT_S:
            continue
        found[pair] = max(share, found.get(pair, 0.0))
    return dict(sorted(found.items()))


def _by_landmarks(prints: Sequence[Print]) -> Iterator[tuple[tuple[int, int], float]]:
    counts = [len(one.hashes) for one in prints]
    if sum(counts) == 0:
        return
    place = np.repeat(np.arange(len(prints)), counts)
    hashes, frames = (np.concatenate([getattr(one, name) for one in prints]) for name in ("hashes", "frames"))
    order = np.lexsort((place, hashes))
    place, hashes, frames = place[order], hashes[order], frames[order].astype(np.int64)
    # All pairs of entries with equal hashes, as distances in the sorted list.
    begins = np.flatnonzero(np.diff(hashes, prepend=hashes[0] ^ np.uint32(1)))
    sizes = np.diff(begins, append=len(hashes))
    usable = np.repeat((sizes > 1) & (sizes <= COMMON), sizes)
    place, hashes, frames = place[usable], hashes[usable], frames[usable]
    found = []
    for distance in range(1, min(COMMON, int(sizes.max()))):
        same = np.flatnonzero((hashes[distance:] == hashes[:-distance]) & (place[distance:] != place[:-distance]))
        if len(same):
            found.append(np.stack([place[same], place[same + distance], frames[same] - frames[same + distance]]))
    if found:
        yield from _at_one_lag(np.concatenate(found, axis=1), np.array(counts))


def _at_one_lag(found: np.ndarray, landmarks: np.ndarray) -> Iterator[tuple[tuple[int, int], float]]:
    """The pairs that occur often enough at lags that differ by one at most.

    ``found`` are places and lags, int64 [3, n]; ``landmarks`` are the numbers of them by place.
    """
    rows, counts = np.unique(found, axis=1, return_counts=True)
    if not len(counts):
        return
    follows = (rows[:2, 1:] == rows[:2, :-1]).all(axis=0) & (rows[2, 1:] == rows[2, :-1] + 1)
    votes = counts + np.append(np.where(follows, counts[1:], 0), 0)
    fewer = np.minimum(landmarks[rows[0]], landmarks[rows[1]])
    enough = votes >= np.maximum(LEAST, LEAST_SHARE * fewer)
    pairs = ((one, two) for one, two in rows[:2, enough].T.tolist())
    yield from zip(pairs, (votes / fewer)[enough].tolist(), strict=True)


def _by_textures(prints: Sequence[Print], seconds: Sequence[float]) -> Iterator[tuple[tuple[int, int], float]]:
    """Compares short recordings with those of about the same length."""
    places = [place for place, one in enumerate(prints) if one.texture is not None]
    places.sort(key=lambda place: seconds[place])
    if not places:
        return
    lengths = np.array([seconds[place] for place in places])
    textures = np.array([prints[place].texture for place in places], np.int8)
    longest = lengths * (1 + LENGTH) + MARGIN_S
    for begin in range(0, len(places), BLOCK):
        some = slice(begin, begin + BLOCK)
        end = int(np.searchsorted(lengths, longest[some][-1], side="right"))
        for first in range(begin, end, BLOCK):
            others = slice(first, min(first + BLOCK, end))
            alike = _correlation(textures[some].astype(np.float32), textures[others].astype(np.float32))
            close = lengths[others][None] <= longest[some][:, None]
            for row, column in np.argwhere((alike > ALIKE) & close):
                if first + column > begin + row:
                    low, high = sorted((places[begin + row], places[first + column]))
                    yield (low, high), float(alike[row, column] > SAME)


def _correlation(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of textures, float32 [n, BANDS] and [m, BANDS], where both have sound: [n, m]; 0 where there is too little."""
    here, there = np.abs(one), np.abs(two)
    count, product = here @ there.T, one @ two.T
    first, second = one @ there.T, here @ two.T
    spread = np.sqrt(np.maximum((count * count - first * first) * (count * count - second * second), 0))
    telling = spread >= TELLING * np.maximum(count, 1)
    return np.where(telling, (count * product - first * second) / np.maximum(spread, 1), 0)
