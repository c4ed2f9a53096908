"""Drawing from priors on one core: codes with and without the cache of keys and values, and real latents."""

import time
from pathlib import Path

from benchmarks.speed.support.rows import Row, compare
from benchmarks.speed.support.trial import in_new_process

# Latents like those of the presets vqvae_tiny and vae_tiny.
RATE = 22_050
CODES = {"kind": "codes", "rows": 9, "size": 512, "stride": 210}
REAL = {"kind": "real", "rows": 144, "size": 0, "stride": 490}
# Without the cache the time grows with the square of the length: 5 s for eight would take longer than a trial may.
SECONDS = 2.0
ITEMS = (1, 8)


def measure(folder: Path, quick: bool) -> list[Row]:
    """Seconds of audio a second of drawing, by priors of the preset's size with weights as they start."""
    seconds, rounds = (0.5, 1) if quick else (SECONDS, 3)
    rows = []
    for items in ITEMS:
        cached, plain, flow = in_new_process(_speeds, seconds, items, rounds)
        what = f"{items} recording{'s' * (items > 1)} of {seconds:g} s"
        rows.append(compare(f"drawing codes, {what}: with cache against without", cached, plain, "s of audio a second"))
        rows.append(compare(f"drawing {what}: codes with cache against flow of 16 steps", cached, flow, "s a second"))
    return rows


def _speeds(seconds: float, items: int, rounds: int) -> list[float]:
    """Seconds of audio a second: codes with the cache, codes without it, real latents."""
    import torch

    from audiovae.layers.noise import Noise
    from audiovae.saved.kinds import build_any

    torch.set_num_threads(1)

    def prior(latents: dict):
        frames = max(1, round(seconds * RATE / latents["stride"]))
        place = {"model": "", "family": "", "rate": RATE, "fade": -1, "chunk_frames": frames, "frames": frames}
        config = {"latents": latents | place, "settings": {"transformer": {"width": 256, "layers": 4, "heads": 4}}}
        return build_any("prior", config, frames * latents["rows"], RATE).eval(), frames

    def noise():
        return Noise(0, 0, torch.arange(items), items)

    codes, frames = prior(CODES)
    real, windows = prior(REAL)
    steps = frames + CODES["rows"] - 1

    @torch.no_grad()
    def without_cache():
        inputs = torch.zeros(items, CODES["rows"], steps, dtype=torch.int64)
        for step in range(steps):
            logits = codes.heads(codes.trunk(codes.enter(inputs[:, :, : step + 1]))[:, -1:])
            if step + 1 < steps:
                inputs[:, :, step + 1] = logits.squeeze(1).argmax(-1)

    def speed(draw) -> float:
        spent = []
        for _ in range(rounds):
            begin = time.process_time()
            draw()
            spent.append(time.process_time() - begin)
        return items * seconds / min(spent)

    return [
        speed(lambda: codes.sample(noise(), frames)),
        speed(without_cache),
        speed(lambda: real.sample(noise(), windows)),
    ]
