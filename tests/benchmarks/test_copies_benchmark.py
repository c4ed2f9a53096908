"""The benchmark of copies, on a few practice recordings."""

import json

from benchmarks.__main__ import main
from shards.practice.tunes import practice


def test_the_figures_of_a_few_recordings(tmp_path, capsys):
    practice(tmp_path / "tunes", minutes=1)
    assert main(["copies", str(tmp_path / "tunes"), "--most", "4", "--json", str(tmp_path / "copies.json")]) == 0
    told = capsys.readouterr().out
    assert "originals that are taken for copies of each other: 0 in 0 pairs" in told
    figures = json.loads((tmp_path / "copies.json").read_text())["copies"]
    assert figures["recordings"] == 4
    assert figures["found"]["MP3"] == figures["found"]["one sample less"] == 1
