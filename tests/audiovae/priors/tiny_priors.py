"""Small priors and records of latents that their tests share."""

import torch
from torch import Tensor

from audiovae import Noise
from audiovae.priors.prior import Prior
from audiovae.saved.kinds import build_any

LATENTS = {
    "real": {"kind": "real", "rows": 5, "size": 0},
    "codes": {"kind": "codes", "rows": 3, "size": 7},
}
KINDS = sorted(LATENTS)
SHARED = {"model": "m", "family": "f", "frames": 12, "stride": 490, "rate": 22050, "fade": -1, "chunk_frames": 4}
TRANSFORMER = {"width": 16, "layers": 2, "heads": 2, "feed_forward": 2}


def config(kind: str, latents: dict | None = None, transformer: dict | None = None, **settings: object) -> dict:
    """The plain values of a tiny prior's settings."""
    return {
        "latents": SHARED | LATENTS[kind] | (latents or {}),
        "settings": {"transformer": TRANSFORMER | (transformer or {}), **settings},
    }


def make(kind: str, latents: dict | None = None, transformer: dict | None = None, **settings: object) -> Prior:
    """A tiny prior in training mode."""
    torch.manual_seed(0)
    values = config(kind, latents, transformer, **settings)
    return build_any("prior", values, values["latents"]["rows"] * values["latents"]["frames"], 225)


def awake(kind: str, latents: dict | None = None, transformer: dict | None = None, **settings: object) -> Prior:
    """A tiny prior in training mode whose weights and calibration have left their start."""
    prior = make(kind, latents, transformer, **settings)
    prior.calibrate([records(prior, 8)])
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return prior


def whole(prior: Prior, items: int, seed: int = 0) -> Tensor:
    """Whole numbers of some records, int64 [items, rows, frames]."""
    latents = prior.latents
    draw = torch.Generator().manual_seed(seed)
    shape = (items, latents.rows, latents.frames)
    if latents.kind == "codes":
        return torch.randint(latents.size, shape, generator=draw)
    return torch.randint(-600, 900, shape, generator=draw)


def as_audio(numbers: Tensor) -> Tensor:
    """Whole numbers [items, rows, frames] -> what the training loop gives a model, frame after frame: [items, 1, n]."""
    return (numbers.transpose(1, 2).flatten(1).to(torch.int16).float() / 32768).unsqueeze(1)


def records(prior: Prior, items: int, seed: int = 0) -> Tensor:
    return as_audio(whole(prior, items, seed))


def noise(items: int, step: int = 0, rows: list[int] | None = None) -> Noise:
    """Noise for some rows (all by default) of a batch of `items`."""
    return Noise(7, step, torch.arange(items) if rows is None else torch.tensor(rows), items)
