"""What a prior has learned from: whether recordings are held out from it, and how many have each label."""

from collections.abc import Sequence

from shards import DataError, Split
from shards.reading.parts import load_joined
from train.errors import TrainError
from train.runs.run_folder import RunDir

# What `train encode` calls the fingerprint of the data set whose latents it made, and what it knows of their labels.
ENCODED, LABELS = "encoded", "labels"
# Recordings of a data set; more only occur in files that are damaged.
MOST = 1 << 40


def is_what_was_encoded(run: RunDir, split: Split) -> bool | None:
    """Whether the latents of a run are those of the split's data set; None if the latents cannot be read.

    Raises:
        TrainError: when the prior has learned from a recording of the split.
    """
    try:
        sets = load_joined(run.config["data.path"])[1]
    except (DataError, OSError):
        return None
    others = [latents for latents in sets if latents.settings.get(ENCODED) != split.manifest.fingerprint]
    if not others:
        return True
    sources = [source for latents in others for source in latents.sources]
    known = {source.fingerprint for source in sources if source.split == "train" and source.chunks}
    own = [source for source in split.manifest.sources if source.split == split.name and source.chunks]
    seen = [source.path for source in own if source.fingerprint in known]
    if seen:
        raise TrainError(
            f"{split.where}: the prior has learned from {len(seen)} of the {len(own)} recordings of split "
            f"'{split.name}', such as {seen[0]}; pass the data set that was encoded with --data DIR"
        )
    return False


def labels_in_turn(run: RunDir, names: Sequence[str], pieces: int) -> list[str | None] | None:
    """A label for each piece, as often as training recordings have it; None for a prior without labels.

    Where the latents cannot be read, each label comes as often as the others.
    """
    if not names:
        return None
    known = [None, *names]
    counts = _counts(run, len(known)) or [0] + [1] * len(names)
    total, drawn = sum(counts), [0] * len(known)
    found: list[str | None] = []
    for piece in range(1, pieces + 1):
        # The label that is furthest behind its share.
        number = max(range(len(known)), key=lambda one: counts[one] * piece / total - drawn[one])
        drawn[number] += 1
        found.append(known[number])
    return found


def _counts(run: RunDir, labels: int) -> list[int] | None:
    """How many training recordings have no label and each label; None if the latents do not say so."""
    try:
        sets = load_joined(run.config["data.path"])[1]
    except (DataError, OSError):
        return None
    total = [0] * labels
    for about in (latents.settings.get(LABELS) for latents in sets):
        found = about.get("recordings") if isinstance(about, dict) else None
        if not isinstance(found, list) or len(found) != labels:
            return None
        if not all(type(one) is int and 0 <= one < MOST for one in found):
            return None
        total = [before + more for before, more in zip(total, found, strict=True)]
    return total if sum(total) else None
