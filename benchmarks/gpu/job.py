"""What the process of a part is told, and the sizes that follow from it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

FAMILIES = ("vae", "hvae", "vqvae")


@dataclass(frozen=True)
class Job:
    """The work of one part.

    Attributes:
        argument: The family, for parts that measure one.
        folder: Folder for data and runs; parts find there what earlier ones made.
        rows: File for the rows.
        seconds: Time that the part has.
        cpu: Whether it runs on the CPU.
        quick: Whether everything is tiny, to see that it runs.
        data: Shards given by the user; empty if none.
        found: Values of finished parts: by part, by name of the row.
    """

    argument: str
    folder: Path
    rows: Path
    seconds: float
    cpu: bool = False
    quick: bool = False
    data: str = ""
    found: dict[str, dict[str, float]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the job for the process that does it."""
        path.write_text(json.dumps(asdict(self) | {"folder": str(self.folder), "rows": str(self.rows)}))

    @classmethod
    def load(cls, path: Path) -> "Job":
        """Reads what `save` wrote."""
        content = json.loads(path.read_text())
        return cls(**content | {"folder": Path(content["folder"]), "rows": Path(content["rows"])})

    def value(self, part: str, name: str) -> float | None:
        """A value of a finished part; None if there is none."""
        return self.found.get(part, {}).get(name)

    @property
    def time_each(self) -> float:
        """Seconds for one timed measurement."""
        return 0.0 if self.quick else 3.0

    @property
    def warm(self) -> int:
        """Steps before a timed measurement; the codebooks start within them."""
        return 2 if self.quick else 8
