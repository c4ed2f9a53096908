"""The results of all parts: gpu.json, and the same as a Markdown table."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import PARTS
from shards.files import write_atomically

FILE, TABLE = "gpu.json", "gpu.md"
FINISHED = "finished"


class OtherResultsError(Exception):
    """The folder has results of another machine or of other settings; the message says what to do."""


@dataclass
class Results:
    """What is known so far.

    Attributes:
        folder: Where gpu.json and gpu.md are.
        machine: Facts about the machine; `setting` says what results may be put together.
        parts: By name: `status`, `seconds`, `rows`.
    """

    folder: Path
    machine: dict[str, Any]
    parts: dict[str, dict[str, Any]]

    @classmethod
    def open(cls, folder: Path, machine: dict[str, Any], fresh: bool, named: list[str]) -> "Results":
        """The results in a folder, to go on with.

        Args:
            folder: The folder; it is made if it is not there.
            machine: Facts about this machine.
            fresh: Whether to forget the results of the parts in `named`, or of all if that is empty.
            named: See `fresh`.

        Raises:
            OtherResultsError: when the results there cannot be put together with those of this machine.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        if (fresh and not named) or not path.exists():
            return cls(folder, machine, {})
        try:
            content = json.loads(path.read_text())
            before, parts = content["machine"]["setting"], dict(content["parts"])
        except (ValueError, KeyError, TypeError):
            raise OtherResultsError(f"{path}: not results of this command; remove it or pass --fresh") from None
        if before != machine["setting"]:
            differing = [key for key in machine["setting"] if before.get(key) != machine["setting"][key]]
            raise OtherResultsError(
                f"{path}: results of another {' and '.join(differing)}; pass another --out, or --fresh to replace them"
            )
        return cls(folder, machine, {name: part for name, part in parts.items() if not (fresh and name in named)})

    def is_finished(self, name: str) -> bool:
        """Whether a part came to its end, in this call or an earlier one."""
        return self.parts.get(name, {}).get("status") == FINISHED

    def values(self) -> dict[str, dict[str, float]]:
        """Measured values: by part, by name of the row."""
        return {
            name: {row["name"]: row["value"] for row in part["rows"] if row["value"] is not None}
            for name, part in self.parts.items()
        }

    def put(self, name: str, status: str, seconds: float, rows: list[dict[str, Any]], log: str = "") -> None:
        """Replaces what is known of a part, and writes both files."""
        self.parts[name] = {"status": status, "seconds": round(seconds, 1), "rows": rows}
        if log:
            self.parts[name]["log"] = log
        self.write()

    def write(self) -> None:
        """Writes gpu.json and gpu.md, each whole or not at all."""
        known = [part.name for part in PARTS if part.name in self.parts]
        content = {"machine": self.machine, "parts": {name: self.parts[name] for name in known}}
        write_atomically(self.folder / FILE, json.dumps(content, indent=1) + "\n")
        write_atomically(self.folder / TABLE, table(content))


def table(content: dict[str, Any]) -> str:
    """The content of gpu.json as Markdown."""
    machine = content["machine"]
    setting = machine["setting"]
    title = f"# On one {setting['device']}" if setting["gpu"] else "# On a CPU, not run on a GPU"
    if setting["quick"]:
        title += ": tiny models, to see that everything runs"
    software = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "setting")
    lines = [title, "", f"{software}."]
    for part in PARTS:
        if part.name not in content["parts"]:
            continue
        found = content["parts"][part.name]
        lines += ["", f"## {part.title[0].upper()}{part.title[1:]}", ""]
        if found["status"] != FINISHED:
            lines += [f"**Not finished: {found['status']}.**", ""]
        if found["rows"]:
            lines += ["| | value | unit | wanted | note |", "|---|---|---|---|---|"]
            lines += [_line(row) for row in found["rows"]]
        lines += ["", f"{part.name}, {found['seconds']:.0f} s"]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    value = row["value"]
    shown = "" if value is None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    goal = row["goal"] + {True: ": reached", False: ": **missed**", None: ""}[row["ok"]]
    cells = (row["name"], shown, row["unit"], goal, row["note"])
    return "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"
