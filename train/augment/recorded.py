"""Windows and augmentation as the record of a run names them. The record may be damaged or a stranger's."""

from dataclasses import fields
from typing import Any

from shards.files import is_number, is_whole
from train.augment.settings import AUGMENTATIONS, AugmentConfig


def augment_of(settings: dict[str, Any]) -> AugmentConfig:
    """The augmentation in recorded settings, by dotted keys; what they do not know is off.

    Raises:
        ValueError: when a value is none that the program writes.
    """
    found: dict[str, Any] = {}
    for name in (field.name for field in fields(AugmentConfig)):
        value = settings.get(f"augment.{name}")
        if value is None:  # recorded by a version without it
            continue
        if name in AUGMENTATIONS:
            good = is_number(value)
        else:
            good = isinstance(value, list) and len(value) == 2 and all(map(is_number, value))
        if not good:
            raise ValueError(f"augment.{name} is damaged")
        found[name] = value if name in AUGMENTATIONS else tuple(value)
    return AugmentConfig(**found)


def crop_of(settings: dict[str, Any]) -> int:
    """The `data.crop` in recorded settings; raises ValueError as `augment_of` does."""
    crop = settings.get("data.crop") or 0
    if not is_whole(crop) or crop < 0:
        raise ValueError("data.crop is damaged")
    return crop
