"""Whether the recordings to measure against are held out from what the prior has learned."""

from shards import DataError, Split
from shards.reading.manifests import load_manifest
from train.errors import TrainError
from train.runs.run_folder import RunDir

# What `train encode` calls the fingerprint of the data set whose latents it made.
ENCODED = "encoded"


def is_what_was_encoded(run: RunDir, split: Split) -> bool | None:
    """Whether the latents of a run are those of the split's data set; None if the latents cannot be read.

    Raises:
        TrainError: when the prior has learned from a recording of the split.
    """
    try:
        latents = load_manifest(str(run.config["data.path"]))[0]
    except (DataError, OSError):
        return None
    if latents.settings.get(ENCODED) == split.manifest.fingerprint:
        return True
    known = {source.fingerprint for source in latents.sources if source.split == "train" and source.chunks}
    own = [source for source in split.manifest.sources if source.split == split.name and source.chunks]
    seen = [source.path for source in own if source.fingerprint in known]
    if seen:
        raise TrainError(
            f"{split.where}: the prior has learned from {len(seen)} of the {len(own)} recordings of split "
            f"'{split.name}', such as {seen[0]}; pass the data set that was encoded with --data DIR"
        )
    return False
