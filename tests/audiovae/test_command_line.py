"""The words of `python -m audiovae`: what is misspelt, what is left out, and many recordings at once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import ROOT, command, plucked

from audiovae.__main__ import flags_last, main, make_parser
from audiovae.commands import COMMANDS


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command with these words; gives exit code, stdout and stderr without what is clipped."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["audiovae", *map(str, words)])
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, "".join(line for line in said.err.splitlines(True) if "full scale" not in line)

    return run


@pytest.fixture
def songs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a.wav", "b.flac", "c.wav")):
        soundfile.write(name, 0.1 * plucked(seed), 22050)
    return tmp_path


def test_without_a_command_the_overview_is_shown():
    done, helped = command(), command("--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == helped.stdout + "\nerror: no command given\n"
    assert helped.returncode == 0
    assert all(f"    {name} " in helped.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_shows_no_flags_without_a_use(name, run):
    code, out, _ = run(*filter(None, [name]), "--help")
    assert code == 0
    assert "config CONFIG" not in out
    assert "print_config" not in out
    assert "class '" not in out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["reconstuct", "M", "a.wav", "o.wav"], "reconstruct"),
        (["smaple", "M", "o.wav"], "sample"),
        (["reconstruct", "M", "a.wav", "o.wav", "--overlp", "0.1"], "--overlap"),
        (["reconstruct", "M", "a.wav", "o.wav", "--devise=cpu"], "--device"),
        (["sample", "M", "o.wav", "--temprature", "1"], "--temperature"),
    ],
)
def test_what_is_misspelt_names_the_nearest(words, meant, run):
    code, _, err = run(*words)
    assert code == 2
    assert err.startswith("error: ")
    assert err.endswith(f"; did you mean {meant}?\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["sample", "x", "y.wav", "--temperature"], ["generate", "x", "y", "--seconds"]])
def test_a_number_that_no_float_holds_is_one_line(words, run):
    code, out, err = run(*words, "1" + 310 * "0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {words[-1]} 1000")
    assert "a number cannot be larger than 1.798e+308" in err


@pytest.mark.parametrize("words", [["xyzzy"], ["sample", "M", "o.wav", "--nonsense", "3"], ["sample", "M"], ["sample"]])
def test_what_is_like_nothing_has_no_hint(words, run):
    code, _, err = run(*words)
    assert code == 2
    assert "did you mean" not in err


def test_abbreviated_flags_are_taken_in_silence(run, songs, model_dir):
    assert run("reconstruct", model_dir, "a.wav", "out.wav", "--over", "0.1")[::2] == (0, "")


@pytest.mark.parametrize(
    ("place", "said"), [("full", "error: cannot write to standard output (No space"), ("closed", "")]
)
def test_an_end_of_the_output_is_no_traceback(place, said, songs, model_dir):
    words = [sys.executable, "-m", "audiovae", "reconstruct", str(model_dir), "a.wav", "out.wav"]
    reader, end = (
        os.pipe() if place == "closed" else (os.open("/dev/null", os.O_RDONLY), os.open("/dev/full", os.O_WRONLY))
    )
    os.close(reader)
    done = subprocess.run(
        words, stdout=end, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    os.close(end)
    assert done.returncode == 1
    assert "".join(line for line in done.stderr.splitlines(True) if "full scale" not in line).startswith(said)
    assert "Traceback" not in done.stderr
    assert (songs / "out.wav").exists()


@given(st.lists(st.text(max_size=8), max_size=6))
def test_words_are_moved_and_none_is_lost(words):
    assert sorted(flags_last(words)) == sorted(words)


@given(st.permutations([["a.wav"], ["b.wav"], ["out/"], ["--overlap", "0.5"], ["--device=cpu"]]))
def test_flags_may_stand_anywhere(parts):
    names = [part[0] for part in parts if not part[0].startswith("--")]
    words = ["reconstruct", "M", *(word for part in parts for word in part)]
    chosen = make_parser()[0].parse_args(flags_last(words)).reconstruct
    assert [*chosen.input, chosen.output] == [*map(Path, names[:-1]), names[-1]]
    assert (chosen.overlap, chosen.device) == (0.5, "cpu")


@pytest.mark.parametrize("name", ["1", "null", "[a", "{}", "a: b", "true", "1e3", "a b.wav", "ä.wav"])
def test_names_are_taken_as_they_stand(name):
    chosen = make_parser()[0].parse_args(["reconstruct", name, name, name, name]).reconstruct
    assert (str(chosen.model), [*map(str, chosen.input)], chosen.output) == (name, [name, name], name)


@pytest.mark.parametrize("output", ["out", "out/", "deep/er/out", "there"])
def test_many_recordings_go_into_a_folder(output, run, songs, model_dir):
    (songs / "there").mkdir()
    code, out, err = run("reconstruct", model_dir, "a.wav", "b.flac", "c.wav", output)
    assert (code, err) == (0, "")
    assert out.count("0.1 s at 22050 Hz, vae of") == 3
    assert sorted(file.name for file in (songs / output).iterdir()) == ["a.wav", "b.wav", "c.wav"]
    assert run("reconstruct", model_dir, "b.flac", "alone.wav")[0] == 0
    assert (songs / "alone.wav").read_bytes() == (songs / output / "b.wav").read_bytes()


@pytest.mark.parametrize("output", ["new/", "there", "there/"])
def test_one_recording_goes_into_a_folder_too(output, run, songs, model_dir):
    (songs / "there").mkdir()
    assert run("reconstruct", model_dir, "b.flac", output)[0] == 0
    assert [file.name for file in (songs / output).iterdir()] == ["b.wav"]


def test_one_that_fails_is_told_and_the_others_go_on(run, songs, model_dir):
    (songs / "notes.txt").write_text("la la")
    soundfile.write("nan.wav", np.full(99, np.nan), 22050, subtype="FLOAT")
    code, out, err = run("reconstruct", model_dir, "a.wav", "gone.wav", "notes.txt", "nan.wav", "c.wav", "out/")
    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["out/a.wav", "out/c.wav"]
    lines = err.splitlines()
    assert [line.split(":")[1] for line in lines[:3]] == [" gone.wav", " notes.txt", " nan.wav"]
    assert lines[3] == "error: 3 of 5 recordings failed; see the errors above"
    assert sorted(file.name for file in (songs / "out").iterdir()) == ["a.wav", "c.wav"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.wav", "sub/a.flac", "out/"], "2 recordings would become out/a.wav; run the command once for each"),
        (["a.wav", "b.flac", "c.wav"], "c.wav: is a file; several recordings need a folder"),
        (["a.wav", "b.flac", "new.wav"], "new.wav: several recordings need a folder"),
        (["b.flac", "a.wav", "."], "a.wav: the output is the input a.wav itself"),
        (["a.wav", "link"], "link/a.wav: the output is the input a.wav itself"),
        (["b.flac", "a.wav", "--overlap", "0.7", "out"], "--overlap 0.7: choose 0 to 0.5"),
        (["a.wav", "b.flac", "a.wav/out"], "a.wav is not a folder)"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(words, said, run, songs, model_dir, monkeypatch):
    monkeypatch.setattr("audiovae.commands.load", lambda *_: pytest.fail("refused before any work"))
    os.symlink(".", "link")
    before = sorted(file.name for file in songs.iterdir())
    code, out, err = run("reconstruct", model_dir, *words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert sorted(file.name for file in songs.iterdir()) == before
