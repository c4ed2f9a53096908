"""docs/configuration.md is what the program says of its settings."""

import importlib.util

from documents import ROOT

from train.cli.settings_files import names_of
from train.config import RUNS

spec = importlib.util.spec_from_file_location("configuration", ROOT / "docs" / "configuration.py")
configuration = importlib.util.module_from_spec(spec)
spec.loader.exec_module(configuration)


def test_the_page_is_up_to_date():
    assert configuration.FILE.read_text() == configuration.page(), "run: python docs/configuration.py"


def test_every_setting_is_there_with_a_meaning():
    lines = {line.split("`")[1]: line for line in configuration.page().splitlines() if line.startswith("| `")}
    names = {name for run in RUNS.values() for name in names_of(run)}
    groups = {name for name in names if any(other.startswith(f"{name}.") for other in names)}
    assert lines.keys() == names - groups
    for name, line in lines.items():
        assert len(line.rstrip(" |").rpartition("| ")[2].replace("**Free.**", "").strip()) > 8, name
