"""Use and bit rate of the latents: divergences, active units, codes in use, bits."""

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, Noise
from shards import Split
from train.evaluation.measuring.heldout import AT_A_TIME, noise_at, read_audio, spread

# A unit whose posterior mean has a smaller variance is inactive (Burda et al. 2016, section 5).
ACTIVE_VARIANCE = 0.01
# A row of the table of latents: numbers only.
Row = dict[str, float]


@torch.no_grad()
def latent_columns(model: Autoencoder, audio: Tensor, noise: Noise) -> dict[str, Tensor]:
    """Values of the latents of each item: audio [n, A, T] to columns [n, ...].

    Codes: `codes` [n, codebooks, frames]. Real latents: `nats` [n, levels], the divergence of each level from its
    prior, and for each level l `mean_l` and `variance_l`, the mean and variance over time of each channel,
    [n, channels].
    """
    latents = model.encode(audio)
    if model.code_size:
        return {"codes": model.to_tensors(latents)[0]}
    columns = {"nats": model.divergences(audio, noise)}
    for index, level in enumerate(latents if isinstance(latents, list) else [latents]):
        columns[f"mean_{index}"] = level.float().mean(2)
        columns[f"variance_{index}"] = level.float().var(2, unbiased=False)
    return columns


def latent_rows(columns: dict[str, np.ndarray], code_size: int, seconds: float) -> list[Row]:
    """Use of the latents, for each level (0 is the finest) or each codebook; shows posterior or codebook collapse.

    Args:
        columns: The result of `latent_columns` for at least one item.
        code_size: Number of codes per codebook; 0 for real latents.
        seconds: Length of an item.

    Returns:
        Real latents: `active_units`, the share of channels whose posterior mean has a variance above 0.01 over items
        and time (Burda et al. 2016, section 5), `kl_nats_per_second`, and the same in bits as `kl_bits_per_second`.
        Codes: `codes_used`, a share, `perplexity`, the effective number of codes, `bits_per_second` for fixed-length
        codes, and `entropy_bits_per_second` for an ideal entropy coder with the shares of the codes as its table.
    """
    rows = []
    if not code_size:
        for index, nats in enumerate(columns["nats"].astype(np.float64).mean(0) / seconds):
            means = columns[f"mean_{index}"].astype(np.float64)
            variances = columns[f"variance_{index}"].astype(np.float64)
            active = variances.mean(0) + means.var(0) > ACTIVE_VARIANCE
            row = {"active_units": active.mean(), "kl_nats_per_second": nats, "kl_bits_per_second": nats / np.log(2)}
            rows.append({name: float(value) for name, value in row.items()})
        return rows
    frames = columns["codes"].shape[2] / seconds  # a second
    for share in code_shares(columns["codes"], code_size):
        used = share[share > 0]
        nats = float(-(used * np.log(used)).sum())
        rows.append(
            {
                "codes_used": len(used) / code_size,
                "perplexity": float(np.exp(nats)),
                "bits_per_second": float(frames * np.log2(code_size)),
                "entropy_bits_per_second": float(frames * nats / np.log(2)),
            }
        )
    return rows


def code_shares(codes: np.ndarray, code_size: int) -> list[np.ndarray]:
    """The share of each code by codebook, float64 [code_size] each, from codes [n, codebooks, frames]."""
    each = codes.astype(np.int64).transpose(1, 0, 2)
    return [np.bincount(book.ravel(), minlength=code_size) / book.size for book in each]


def latent_rates(
    columns: dict[str, np.ndarray], code_size: int, seconds: float, of: np.ndarray
) -> dict[str, np.ndarray]:
    """The bit rate of each item's latents as measures, [n] each.

    Real latents: `kl_nats_per_second` and `kl_bits_per_second` over all levels. Codes: `bits_per_second`, the same for
    each item, and `entropy_bits_per_second`: -log2 of each code's share among the items of the mask `of` [n], so that
    the mean over those items is the entropy.
    """
    if not code_size:
        nats = columns["nats"].astype(np.float64).sum(1) / seconds
        return {"kl_nats_per_second": nats, "kl_bits_per_second": nats / np.log(2)}
    codes = columns["codes"].astype(np.int64)
    bits = np.zeros(len(codes))
    for book, share in enumerate(code_shares(codes[of], code_size) if of.any() else []):
        with np.errstate(divide="ignore"):  # codes that only other items use
            bits += np.where(of, -np.log2(share)[codes[:, book]].sum(1), np.nan)
    fixed = codes.shape[1] * codes.shape[2] * np.log2(code_size) / seconds
    return {"bits_per_second": np.full(len(codes), fixed), "entropy_bits_per_second": bits / seconds}


def latent_use(model: Autoencoder, split: Split, limit: int = 512) -> list[Row]:
    """The result of `latent_rows` for up to `limit` evenly spread chunks, computed by this process only."""
    chunks = spread(len(split), limit)
    device = next(model.parameters()).device
    parts = []
    for first in range(0, len(chunks), AT_A_TIME):
        audio = read_audio(split, chunks[first : first + AT_A_TIME], device)
        parts.append({k: v.cpu().numpy() for k, v in latent_columns(model, audio, noise_at(first, audio)).items()})
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return latent_rows(columns, model.code_size, model.seconds)
