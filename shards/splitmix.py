"""Keyed hashing and shuffling by arithmetic, the same on every platform and in every version of NumPy."""

from typing import overload

import numpy as np

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
ROUNDS = 6


@overload
def splitmix64(x: np.ndarray) -> np.ndarray: ...
@overload
def splitmix64(x: int) -> np.uint64: ...
def splitmix64(x: np.ndarray | int) -> np.ndarray | np.uint64:
    """Steele, Lea and Flood's SplitMix64 finaliser of uint64 values: a bijection, so it makes no ties."""
    z = np.asarray(x, np.uint64) if isinstance(x, np.ndarray) else np.uint64(x & _MASK)
    with np.errstate(over="ignore"):
        z = z + np.uint64(_GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def mix(*words: int) -> int:
    """One 64-bit key from several integers, dependent on their order."""
    key = 0
    for word in words:
        key = int(splitmix64(key ^ int(splitmix64(word))))
    return key


def keyed_order(count: int, key: int) -> np.ndarray:
    """A permutation of ``range(count)`` (int64) that depends on the key alone, as an array."""
    return np.argsort(splitmix64(np.arange(count, dtype=np.uint64) ^ np.uint64(key)), kind="stable")


def permute(x: np.ndarray, sizes: np.ndarray | int, keys: np.ndarray | int) -> np.ndarray:
    """Where a keyed permutation of ``range(size)`` sends x: int64 [n], 0 <= x < size -> int64 [n].

    ``sizes`` (from 1) and ``keys`` are single numbers, or an array with one for each x. It takes no memory and
    no preparation, whatever the size. SplitMix64's steps (add, xor with a shift, multiply by an odd number),
    taken modulo the next power of two, are bijections there; what falls outside is sent on until it falls
    inside (Kensler, Correlated Multi-Jittered Sampling, Pixar 13-01, section 5).
    """
    x = np.asarray(x).astype(np.uint64)
    sizes, keys = np.asarray(sizes).astype(np.uint64), np.asarray(keys).astype(np.uint64)
    bits = np.frexp(np.maximum(sizes, 2) - 1)[1].astype(np.uint64)  # that hold size - 1, at least one
    x = _scramble(x, bits, keys)
    outside = np.flatnonzero(x >= sizes)
    sizes, bits, keys = (np.broadcast_to(values, x.shape) for values in (sizes, bits, keys))
    while len(outside):
        x[outside] = _scramble(x[outside], bits[outside], keys[outside])
        outside = outside[x[outside] >= sizes[outside]]
    return x.astype(np.int64)


def _scramble(x: np.ndarray, bits: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """A bijection of ``range(2**bits)`` that depends on the key, all uint64 [n] or single numbers."""
    mask = (np.uint64(1) << bits) - np.uint64(1)
    shift = (bits + np.uint64(1)) >> np.uint64(1)
    with np.errstate(over="ignore"):
        for _ in range(ROUNDS):
            keys = keys * np.uint64(0xD1342543DE82EF95) + np.uint64(_GOLDEN)  # its upper half is the good one
            x = (x + (keys >> np.uint64(32))) & mask
            x = x ^ (x >> shift)
            x = (x * ((keys >> np.uint64(40)) | np.uint64(1))) & mask
            x = x ^ (x >> shift)
    return x
