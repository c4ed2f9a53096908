"""The imports of the three packages as a graph, and the picture made from it: `python docs/architecture.py`.

tests/test_house.py takes its rules from the same graph.
"""

import ast
import math
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("train", "audiovae", "shards")
PICTURE = ROOT / "docs" / "architecture.svg"
# Pixels of a box, of the gaps between boxes, and of the margins.
WIDTH, HEIGHT, GAP, RISE, MARGIN = 104, 30, 14, 40, 16
COLOURS = {"train": "#4a7fb5", "audiovae": "#4a7f5b", "shards": "#b5794a"}


def module_name(file: Path) -> str:
    """The dotted name of a file's module."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    """The file of each module of the packages."""
    return {module_name(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))}


def imports(source: str, known: set[str], package: str = "") -> set[str]:
    """Full names of all that a source imports, wherever in it; known modules by their own name.

    Attributes of an imported package count too: `import torch` and then `torch.distributed.init()`.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in known or base not in known else base)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found


def graph() -> dict[str, set[str]]:
    """The imports of each module."""
    files = modules()
    return {
        name: imports(file.read_text(), set(files), name if file.name == "__init__.py" else name.rpartition(".")[0])
        for name, file in files.items()
    }


def rooms(edges: dict[str, set[str]], package: str) -> dict[str, set[str]]:
    """The graph of a package's direct children: each folder counts as one room, the package's own file is left out."""
    depth = package.count(".") + 2

    def room(name: str) -> str | None:
        return ".".join(name.split(".")[:depth]) if name.startswith(f"{package}.") else None

    found: dict[str, set[str]] = {}
    for name, others in edges.items():
        if (own := room(name)) is not None:
            found.setdefault(own, set()).update(r for o in others & edges.keys() if (r := room(o)) and r != own)
    return found


def circle(edges: dict[str, set[str]]) -> list[str] | None:
    """Some circle among the nodes, or None."""
    done, path = set(), []

    def visit(name: str) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        for other in sorted(edges[name] & edges.keys()):
            if found := visit(other):
                return found
        done.add(path.pop())
        return None

    return next((found for name in sorted(edges) if (found := visit(name))), None)


def floors(edges: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each node: one above the highest that it imports, from 1. The graph must have no circle."""
    found: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((floor(other) for other in edges[name]), default=0)
        return found[name]

    for name in edges:
        floor(name)
    return found


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same graph without the arrows that follow from others: a -> c goes where a -> b -> c is there."""

    def reached(name: str) -> set[str]:
        return edges[name] | {far for other in edges[name] for far in reached(other)}

    return {name: others - {far for other in others for far in reached(other)} for name, others in edges.items()}


def placed(edges: dict[str, set[str]]) -> dict[str, tuple[float, int]]:
    """The place of each node: its column, where 0 is the middle, and its floor. Nodes stand near what they import."""
    level = floors(edges)
    rows = [sorted(n for n, at in level.items() if at == floor) for floor in range(1, max(level.values()) + 1)]
    column: dict[str, float] = {}
    for row in rows:
        wish = {n: math.fsum(column[o] for o in edges[n]) / len(edges[n]) if edges[n] else 0.0 for n in row}
        row.sort(key=lambda n: (wish[n], n))
        for i, name in enumerate(row):
            # Half a column aside on every other floor: an arrow over two floors does not run through a box.
            column[name] = i - (len(row) - 1) / 2 + 0.3 * (-1) ** level[name]
    return {name: (column[name], level[name]) for name in edges}


def drawn(edges: dict[str, set[str]], package: str, left: float, top: float) -> tuple[list[str], float, float]:
    """One package as SVG elements, arrows first, and the width and height that they take."""
    edges = rooms(edges, package)
    places, files, colour = placed(edges), modules(), COLOURS[package]
    step = WIDTH + GAP
    least = min(x for x, _ in places.values())
    highest = max(floor for _, floor in places.values())
    spot = {n: (left + (x - least) * step, top + 30 + (highest - f) * (HEIGHT + RISE)) for n, (x, f) in places.items()}
    arrows, boxes = [], [f'<text x="{left:g}" y="{top + 16:g}" class="package" fill="{colour}">{package}/</text>']
    for name, others in sorted(reduced(edges).items()):
        for other in sorted(others):
            (x1, y1), (x2, y2) = spot[name], spot[other]
            arrows.append(
                f'<path d="M{x1 + WIDTH / 2:.0f},{y1 + HEIGHT:.0f} L{x2 + WIDTH / 2:.0f},{y2 - 2:.0f}" class="arrow" '
                f'stroke="{colour}" marker-end="url(#head)"/>'
            )
    for name, (x, y) in sorted(spot.items()):
        word = name.rpartition(".")[2] + ("/" if files[name].name == "__init__.py" else ".py")
        boxes.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{colour}"/>'
            f'<text x="{x + WIDTH / 2:.0f}" y="{y + 20:.0f}" class="room">{word}</text>'
        )
    right, low = max(x for x, _ in spot.values()) + WIDTH, max(y for _, y in spot.values()) + HEIGHT
    return arrows + boxes, right - left, low - top


def picture() -> str:
    """The rooms of the packages on their floors, with the imports between them, as SVG; `train` imports the others."""
    edges = graph()
    upper, width_of_train, height_of_train = drawn(edges, "train", MARGIN, MARGIN)
    below = MARGIN + height_of_train + 2 * GAP
    models, width_of_models, height_of_models = drawn(edges, "audiovae", MARGIN, below)
    data, width_of_data, height_of_data = drawn(edges, "shards", MARGIN + width_of_models + 4 * GAP, below)
    width = max(width_of_train, width_of_models + 4 * GAP + width_of_data) + 2 * MARGIN
    height = below + max(height_of_models, height_of_data) + MARGIN
    style = (
        ".room{font:13px sans-serif;fill:#fff;text-anchor:middle}.package{font:bold 16px sans-serif}"
        ".arrow{fill:none;stroke-width:1.3;opacity:.6}"
    )
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#777"/></marker>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}">',
            f"<title>Rooms of the packages and what imports what</title><style>{style}</style><defs>{head}</defs>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *upper,
            *models,
            *data,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture())
