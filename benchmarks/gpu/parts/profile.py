"""One step of each default preset in detail: kernels, idle time of the device, and the roofline of its convolutions."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.data import music
from benchmarks.gpu.job import FAMILIES, Job
from benchmarks.gpu.parts.peaks import seconds_of
from benchmarks.gpu.rows import Notes, release_memory
from benchmarks.gpu.trainer import Trainer, in_use, made_batch, make_engine, settings, wait
from shards import Split
from train.evaluation.measuring.heldout import to_audio

STEPS = 3
TOP = 10
LAYER_S = 0.04  # to time one layer
CONVOLUTIONS = (nn.Conv1d, nn.ConvTranspose1d)


def measure(job: Job, notes: Notes) -> None:
    """Adds the rows of all families."""
    shards = music(job)
    split = Split.open(shards, "train")
    for family in FAMILIES:
        with notes.trying(family):
            config = settings(job, family, shards, job.folder / "none", *in_use(family))
            trainer = Trainer(make_engine("bf16"), config, family, split)
            batch = made_batch(split, config.data.batch, trainer.engine.device)
            for _ in range(job.warm):
                trainer.step(batch)
            with notes.trying(f"{family}: kernels"):
                _add_kernels(notes, family, trainer, batch)
            with notes.trying(f"{family}: convolutions"):
                _add_roofline(job, notes, family, trainer, to_audio(batch.audio, trainer.engine.device, batch.channels))
            del trainer
            release_memory()


def _add_kernels(notes: Notes, family: str, trainer: Trainer, batch) -> None:
    """The kernels (on a CPU: operations) that take the most time, and the share of the time without any."""
    device = trainer.engine.device
    on_gpu = device.type == "cuda"
    wait(device)
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as found:
        for _ in range(STEPS):
            trainer.step(batch)
        wait(device)
    if on_gpu:
        spans = [
            (event.name, event.time_range.start, event.time_range.end)
            for event in found.events()
            if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
        ]
        if not spans:
            raise RuntimeError("the profiler saw no kernel")
        share = idle_share([(start, end) for _, start, end in spans])
        notes.add(f"{family}: device idle", share, "of the time", at_most=0.1, note=f"between kernels of {STEPS} steps")
        notes.add(f"{family}: kernels in a step", len(spans) / STEPS, "")
        times: dict[str, float] = {}
        for name, start, end in spans:
            times[name] = times.get(name, 0.0) + end - start
    else:
        times = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    total = sum(times.values())
    for place, (name, time) in enumerate(sorted(times.items(), key=lambda item: -item[1])[:TOP], 1):
        notes.add(f"{family}: {place}", time / total, "of their time", note=name[:120])


def idle_share(spans: Iterable[tuple[float, float]]) -> float:
    """Share of the time from the first start to the last end in which no span is under way."""
    ordered = sorted(spans)
    begin, busy, until = ordered[0][0], 0.0, ordered[0][0]
    for start, end in ordered:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return 1 - busy / (until - begin) if until > begin else 0.0


def _add_roofline(job: Job, notes: Notes, family: str, trainer: Trainer, audio: Tensor) -> None:
    """Time of all convolutions, forward and backward in bf16, against the larger of arithmetic and memory traffic."""
    peak, bandwidth = job.value("peaks", "matmul bf16"), job.value("peaks", "memory")
    if not (peak and bandwidth):
        raise RuntimeError("the part `peaks` has to be finished first")
    inputs = _inputs(trainer, audio)
    if not inputs:
        raise RuntimeError("no convolution was called")
    measured, least, worst = 0.0, 0.0, (0.0, "")
    for name, (layer, given) in inputs.items():
        seconds, flops, moved = _time(job, layer, given)
        floor = max(flops / (peak * 1e12), moved / (bandwidth * 1e9))
        measured, least = measured + seconds, least + floor
        worst = max(worst, (seconds - floor, f"{name} {tuple(given)}: {1e3 * seconds:.2f} ms, floor {1e3 * floor:.2f}"))
    note = f"{len(inputs)} layers take {1e3 * measured:.1f} ms; farthest from its floor: {worst[1]}"
    notes.add(f"{family}: convolutions, floor of their time", least / measured, "", at_least=0.5, note=note)


def _inputs(trainer: Trainer, audio: Tensor) -> dict[str, tuple[nn.Module, torch.Size]]:
    """The convolutions of a forward pass with the shapes of what enters them."""
    found: dict[str, tuple[nn.Module, torch.Size]] = {}
    hooks = []
    for name, layer in trainer.model.named_modules():
        if isinstance(layer, CONVOLUTIONS):

            def note(layer: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                found.setdefault(name, (layer, given[0].shape))

            hooks.append(layer.register_forward_pre_hook(note))
    try:
        with torch.no_grad(), trainer.engine.autocast():
            trainer.model(trainer.model.represent(audio))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _time(job: Job, layer: nn.Module, shape: torch.Size) -> tuple[float, float, float]:
    """Seconds, operations and bytes of one convolution, forward and backward, with operands in bf16."""
    weight = layer.weight.detach()
    device = weight.device
    layer_in_half = type(layer)(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        groups=layer.groups,
        dilation=layer.dilation,
        bias=layer.bias is not None,
        device=device,
        dtype=torch.bfloat16,
    )
    given = torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True)
    out = layer_in_half(given)
    slope = torch.randn_like(out)
    wanted = [given, *layer_in_half.parameters()]

    def once() -> None:
        torch.autograd.grad(layer_in_half(given), wanted, slope)

    # Each element of the weight meets each frame of the shorter side once, for each item.
    frames = min(given.shape[-1], out.shape[-1])
    flops = 3 * 2 * weight.numel() * frames * given.shape[0]
    moved = 3 * 2 * (given.numel() + out.numel() + weight.numel())
    return seconds_of(0.0 if job.quick else LAYER_S, device, once), flops, moved
