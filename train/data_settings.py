"""Settings of the data: where the shards are, of one data set or of several, and how they are batched."""

from dataclasses import dataclass
from pathlib import Path

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveInt

from shards import DataError
from shards.mixing.places import join_places, parse_places, text_of
from shards.reading.manifests import is_url
from shards.reading.remote.failures import cleaned


@dataclass
class DataConfig:
    """Where the shards are and how they are batched.

    Attributes:
        path: Folder made by `python -m shards build`, or its URL (s3://, gs://, https://); short form: `--data DIR`.
            Several as `music/ + speech/:0.3`, or with `--data` for each: 30 % of the chunks are of the second, and the
            sets without a share have the rest by their sizes. A gain follows: `speech/:0.3:-6dB`.
        batch: Chunks in an optimizer step, over all processes; it does not depend on the number of GPUs.
        microbatch: The most chunks in one pass of a process; 0 means its whole share of the batch. Smaller values
            save memory by accumulating gradients and change nothing else.
        memory_gb: Memory for the data on each node, in GB; 0 means half of the free memory. Shards that fit are kept
            in memory; larger data sets are read in blocks shortly before they are needed.
        scratch: Folder on the node's local disk, such as $SLURM_TMPDIR. The shards are copied there while they are
            read from `path`, and then read from the copy. The processes of a node share it.
        scratch_gb: The most disk space for the copy, in GB; 0 means all free space except 5 % of the disk.
        damage_limit: Share of the training chunks that may be damaged; other chunks replace them. 0 allows none.
        crop: Samples that the model takes: a window at a random place of each chunk, which may be longer, drawn anew
            each time. Held-out chunks are divided into consecutive windows. 0 means whole chunks.
    """

    path: str
    batch: PositiveInt = 64
    microbatch: NonNegativeInt = 0
    memory_gb: NonNegativeFloat = 0.0
    scratch: Path | None = None
    scratch_gb: NonNegativeFloat = 0.0
    damage_limit: ClosedUnitInterval = 0.001
    crop: NonNegativeInt = 0

    def __post_init__(self) -> None:
        try:
            parse_places(self.path)
        except DataError as error:
            raise ValueError(f"data.path: {error}") from None

    @property
    def place(self) -> str:
        """The absolute path; or the URL without password and signature, so that it can be shown. Of several all."""
        return text_of(parse_places(self.path), _place_of)

    @property
    def mix(self) -> str | None:
        """Shares and gains of the data sets, without their paths; None for one set as it is."""
        settings = [place.settings for place in parse_places(self.path)]
        return None if settings == ["rest"] else join_places(settings)


def _place_of(path: str) -> str:
    return cleaned(path) if is_url(path) else str(Path(path).resolve())
