"""Parts of a model by name: freezing them, and taking them from another model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from audiovae.errors import ModelError

# They hold statistics of the training recordings in whose units all other weights work.
CALIBRATION = ("representation", "levels")
# The same inside the towers.
WHITENING = "whitening"


def is_within(name: str, part: str) -> bool:
    """Whether a parameter or module, by its dotted name, is the part or inside it."""
    return name == part or name.startswith(f"{part}.")


def parts_of(model: nn.Module) -> list[str]:
    """Names of the parts of a model that have weights or running estimates, such as encoder and decoder."""
    return [*dict.fromkeys(name.partition(".")[0] for name in model.state_dict())]


def check_parts(model: nn.Module, parts: Iterable[str]) -> None:
    """Raises ModelError for the first part, by its dotted name, that the model does not have."""
    names = [*model.state_dict()]
    for part in parts:
        if not any(is_within(name, part) for name in names):
            raise ModelError(f"there is no part {part!r:.80}; the model has {', '.join(parts_of(model))}")


def freeze(model: nn.Module, parts: Iterable[str]) -> None:
    """Makes training leave parts as they are: their weights, their codebooks and their running estimates.

    Raises:
        ModelError: if the model has no such part, the part has nothing to freeze, or nothing would be left to train.
    """
    parts = [*parts]
    check_parts(model, parts)
    can_freeze = [*dict(model.named_parameters()), *(n for n, m in model.named_modules() if hasattr(m, "frozen"))]
    can_freeze += CALIBRATION  # training does not change them
    for part in parts:
        if not any(is_within(name, part) for name in can_freeze):
            raise ModelError(f"{part} has no weights and no codebooks to freeze; name the part that holds it")
    _freeze_where(model, lambda name: any(is_within(name, part) for part in parts))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("nothing is left to train; freeze fewer parts")


def freeze_all_but(model: nn.Module, parts: Iterable[str]) -> None:
    """Freezes all of a model but some parts, by dotted names; see `freeze`."""
    parts = [*parts]
    _freeze_where(model, lambda name: not any(is_within(name, part) for part in parts))


def _freeze_where(model: nn.Module, is_chosen: Callable[[str], bool]) -> None:
    """Freezes the weights, codebooks and running estimates with the names that are chosen."""
    for name, parameter in model.named_parameters():
        if is_chosen(name):
            parameter.requires_grad_(False)
    for name, module in model.named_modules():
        if hasattr(module, "frozen") and is_chosen(name):
            module.frozen = True


@dataclass
class Taken:
    """What a model took from another one, as numbers of values by part.

    Attributes:
        values: Values that were taken.
        new: Values that stay as they were.
        calibrated: Whether the statistics of the recordings came along.
    """

    values: dict[str, int]
    new: dict[str, int]
    calibrated: bool


def _is_calibration(name: str) -> bool:
    """Whether a tensor, by its dotted name, holds statistics of the training recordings."""
    return any(is_within(name, part) for part in CALIBRATION) or WHITENING in name.split(".")


def take(model: nn.Module, given: Mapping[str, Tensor], only: Iterable[str] = ()) -> Taken:
    """Gives a model weights and running estimates of another one.

    Args:
        model: The model that gets them.
        given: The state dict of the other one.
        only: Parts to take, by dotted names; empty for all. The statistics of the recordings come along if they fit,
            as weights are in their units.

    Raises:
        ModelError: if the model has no such part, or a tensor of it is missing or has another shape.
    """
    only = [*only]
    check_parts(model, only)
    own = model.state_dict()
    fitting = {name for name, value in own.items() if name in given and given[name].shape == value.shape}
    wanted = [name for name in own if not only or any(is_within(name, part) for part in only)]
    if misfits := [name for name in wanted if name not in fitting]:
        raise ModelError(_misfit(misfits, own, given, fitting))
    along = {name for name in fitting if _is_calibration(name)}
    taken = {name: given[name] for name in own if name in {*wanted} | along}
    model.load_state_dict({**own, **taken})
    new = {name: value for name, value in own.items() if name not in taken}
    return Taken(_counts(taken), _counts(new), not any(_is_calibration(name) for name in new))


def _counts(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, value in tensors.items():
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + value.numel()
    return counts


def _misfit(misfits: list[str], own: Mapping[str, Tensor], given: Mapping[str, Tensor], fitting: set[str]) -> str:
    first = misfits[0]
    there = f"is {[*given[first].shape]} there" if first in given else "is missing there"
    parts = {name.partition(".")[0] for name in own} - {name.partition(".")[0] for name in own.keys() - fitting}
    fit = [part for part in dict.fromkeys(name.partition(".")[0] for name in own) if part in parts - {*CALIBRATION}]
    return (
        f"{len(misfits)} of {len(own)} tensors do not fit: {first} {there} and {[*own[first].shape]} here; "
        f"{'parts that fit: ' + ', '.join(fit) if fit else 'no part fits as a whole'}"
    )
