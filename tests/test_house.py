"""The structure: which package may import which, no circles, and folders that stay small. Read from the source alone.

The graph of imports is that of docs/architecture.py, which also draws the picture of docs/architecture.md.
"""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs" / "architecture.py")
architecture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(architecture)

PACKAGES = ("shards", "audiovae", "train")
MODULES = architecture.modules()
GRAPH = architecture.graph()
ROOMS = sorted({name.rpartition(".")[0] for name in MODULES} - {""})
LONGEST = 400  # lines of a file
MOST_FILES = 14  # Python files of a folder
MOST_FLOORS = {"train": 6, "audiovae": 7}  # of a package's rooms


def tracked() -> list[Path]:
    """The Python files of the project."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    folders = (*PACKAGES, "benchmarks", "docs", "tests")
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


FILES = tracked()


def imported_by(package: str) -> set[str]:
    """All that the modules of a package import, with the packages around it."""
    names = {other for name, others in GRAPH.items() if f"{name}.".startswith(f"{package}.") for other in others}
    return names | {".".join(name.split(".")[:i]) for name in names for i in range(1, name.count(".") + 1)}


def test_all_three_packages_are_there():
    assert {name.split(".")[0] for name in MODULES} == set(PACKAGES)
    assert len(MODULES) > 30
    assert len(FILES) > 300


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("shards", {"audiovae", "train", "wandb", "torch.distributed", "accelerate"}),
        ("audiovae", {"train", "wandb", "torch.distributed", "accelerate"}),
        ("train", {"tests", "benchmarks"}),
        ("shards.audio", {"shards.building", "shards.reading", "torch"}),
        ("shards.building", {"shards.reading", "torch"}),
        ("shards.reading", {"shards.building"}),
        ("audiovae.layers", {"audiovae.models", "audiovae.saved", "audiovae.recordings"}),
        ("train.optim", {"train.config", "train.parallel", "train.runs", "train.training"}),
        ("train.evaluation", {"train.training", "train.tracking", "wandb"}),
        ("train.runs.requeue", {"torch", "numpy", "audiovae", "train.config", "shards.manifest", "shards.reading"}),
    ],
)
def test_what_a_package_must_not_import(package, forbidden):
    assert not imported_by(package) & forbidden


def test_audiovae_shares_only_the_ground_of_shards():
    """Decoding, levels, file writing, and text for people are the same in both packages, and need no torch."""
    ground = ("shards.audio", "shards.cli", "shards.files", "shards.text")
    taken = {other for name, others in GRAPH.items() if name.startswith("audiovae") for other in others}
    taken = {name for name in taken if name.split(".")[0] == "shards" and name in GRAPH}
    assert taken
    assert all(name.startswith(ground) for name in taken), taken
    below = {other for name in GRAPH if name.startswith(ground) for other in GRAPH[name] & GRAPH.keys()}
    assert all(name.startswith(ground) for name in below), below


def test_the_ground_of_shards_needs_no_torch():
    """The package imports its other modules on first use."""
    script = (
        "import sys, shards.files, shards.audio.decoding; print(sorted({'torch', 'shards.manifest'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_train_joins_the_other_two():
    assert {"shards", "audiovae"} <= imported_by("train")


def test_only_the_engine_and_its_sums_know_other_processes():
    known = {"torch.distributed", "accelerate"}
    at_work = {"train.parallel.engine", "train.parallel.ordered_sum"}
    assert {name for name, others in GRAPH.items() if others & known} == at_work


def test_no_module_imports_itself_through_others():
    assert architecture.circle(GRAPH) is None


@pytest.mark.parametrize("package", ROOMS)
def test_imports_between_rooms_run_one_way(package):
    assert architecture.circle(architecture.rooms(GRAPH, package)) is None


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_few_floors(package):
    highest = max(architecture.floors(architecture.rooms(GRAPH, package)).values())
    assert highest <= MOST_FLOORS.get(package, 6)


def test_no_folder_holds_too_many_files():
    count: dict[Path, int] = {}
    for file in FILES:
        count[file.parent] = count.get(file.parent, 0) + 1
    assert not {str(folder.relative_to(ROOT)): n for folder, n in count.items() if n > MOST_FILES}


@pytest.mark.parametrize("package", [name for name in ROOMS if MODULES[name].name == "__init__.py"])
def test_a_room_says_what_it_holds_and_imports(package):
    about = ast.get_docstring(ast.parse(MODULES[package].read_text())) or ""
    if package in ("shards", "audiovae"):  # these say how they are used instead
        assert len(about.splitlines()) > 2
    else:
        assert "import" in about.partition("\n\n")[2].lower(), (
            f"{package}: the docstring says what may be imported here"
        )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_needs_a_table_of_contents(file):
    lines = len(file.read_text().splitlines())
    # Tests of one subject may be long: they are read one by one.
    assert lines <= (600 if "tests" in file.parts else LONGEST), f"{lines} lines: split it by purpose"


def test_the_picture_is_up_to_date():
    assert architecture.PICTURE.read_text() == architecture.picture(), "run: python docs/architecture.py"


def test_the_graph_sees_what_is_there():
    """A circle, a forbidden import and a hidden one are found; floors and rooms are those of a small example."""
    assert architecture.circle({"a": {"b", "os"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert architecture.circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    modules = {"p", "p.q", "p.r"}
    assert architecture.imports("def f():\n    from p import q, thing", modules) == {"p.q", "p"}
    assert architecture.imports("from . import q\nfrom .r import x", modules, "p") == {"p.q", "p.r"}
    assert "torch.distributed" in architecture.imports("import torch\ntorch.distributed.barrier()", modules)
    assert "torch.distributed" in architecture.imports("from torch import distributed as d", modules)
    edges = {"p": set(), "p.a.x": {"p.b.y"}, "p.b.y": {"p.b.z"}, "p.b.z": {"p.c"}, "p.c": set()}
    assert architecture.rooms(edges, "p") == {"p.a": {"p.b"}, "p.b": {"p.c"}, "p.c": set()}
    assert architecture.floors(architecture.rooms(edges, "p")) == {"p.c": 1, "p.b": 2, "p.a": 3}
    assert architecture.reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_no_two_test_files_have_one_name():
    """pytest imports them by that name alone, so a second one ends the collection of all."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
