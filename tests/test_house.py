"""The house: which package may know which, no circles, and rooms that stay small. Read from the source alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("shards", "audiovae", "train")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
LONGEST = 400  # lines


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def imports(source: str, modules: set[str], package: str = "") -> set[str]:
    """Full names of all that a source imports, wherever in it; modules of this house by their own name.

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
                found.add(full if full in modules or base not in modules else base)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found


def graph() -> dict[str, set[str]]:
    """Imports of each module."""
    edges = {}
    for name, file in MODULES.items():
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        edges[name] = imports(file.read_text(), set(MODULES), package)
    return edges


def circle(edges: dict[str, set[str]]) -> list[str] | None:
    """Some circle among the modules, or None."""
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


def known_by(package: str) -> set[str]:
    """Everything that the modules of a package import, with all packages above."""
    names = {other for name, others in graph().items() if f"{name}.".startswith(f"{package}.") for other in others}
    return names | {".".join(name.split(".")[:i]) for name in names for i in range(1, name.count(".") + 1)}


def test_all_three_packages_are_there():
    assert {name.split(".")[0] for name in MODULES} == set(PACKAGES)
    assert len(MODULES) > 30


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("shards", {"audiovae", "train", "wandb", "torch.distributed", "accelerate"}),
        ("audiovae", {"train", "wandb", "torch.distributed", "accelerate"}),
        ("train", {"tests", "chaos"}),
        ("shards.building", {"shards.reading", "torch"}),
        ("shards.reading", {"shards.building"}),
    ],
)
def test_who_may_know_whom(package, forbidden):
    assert not known_by(package) & forbidden


def test_models_know_only_the_ground_of_the_shards():
    """`shards.files` and `shards.audio`, which need no torch; not the package itself, which has everything."""
    known = {other for name, others in graph().items() if name.split(".")[0] == "audiovae" for other in others}
    of_shards = {other for other in known if other.split(".")[0] == "shards"}
    assert "shards.files" in of_shards
    assert {other for other in of_shards if not f"{other}.".startswith(("shards.files.", "shards.audio."))} == set()


def test_the_package_of_shards_imports_nothing_by_itself():
    assert not {other for other in graph()["shards"] if other.split(".")[0] in PACKAGES}


def test_train_brings_the_two_together():
    assert {"shards", "audiovae"} <= known_by("train")


def test_no_module_imports_itself_through_others():
    assert circle(graph()) is None


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_needs_a_table_of_contents(file):
    lines = len(file.read_text().splitlines())
    assert lines <= LONGEST, f"{lines} lines: split it by purpose"


def test_the_eyes_of_these_tests_are_open():
    """A circle, a forbidden import and a hidden one are found where they are."""
    assert circle({"a": {"b", "os"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    modules = {"p", "p.q", "p.r"}
    assert imports("def f():\n    from p import q, thing", modules) == {"p.q", "p"}
    assert imports("from . import q\nfrom .r import x", modules, "p") == {"p.q", "p.r"}
    assert "torch.distributed" in imports("import torch\ntorch.distributed.barrier()", modules)
    assert "torch.distributed" in imports("from torch import distributed as d", modules)
