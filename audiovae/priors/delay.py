"""The delay pattern of codebooks: book k is k frames late (Copet et al. 2023, "MusicGen").

So all books of a step are predicted at once, and book k of a frame depends on the books before it in the same frame.
"""

from torch import Tensor, nn


def delayed(codes: Tensor, filler: int) -> Tensor:
    """Codes [B, K, T] -> [B, K, T + K - 1]: step s has book k of frame s - k, or `filler` where there is none."""
    items, books, frames = codes.shape
    # A row with K fillers, cut into rows of one less, begins one step later each time.
    padded = nn.functional.pad(codes, (0, books), value=filler).flatten(1)
    return padded[:, : books * (frames + books - 1)].view(items, books, frames + books - 1)


def undelayed(steps: Tensor) -> Tensor:
    """The inverse of `delayed`: [B, K, T + K - 1] -> [B, K, T]."""
    items, books, length = steps.shape
    padded = nn.functional.pad(steps.flatten(1), (0, books)).view(items, books, length + 1)
    return padded[:, :, : length + 1 - books]
