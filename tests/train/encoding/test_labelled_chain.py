"""Labels from the recordings to the drawn sound: the real chain on two folders of clearly different sound."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import audiovae
from audiovae import commands
from audiovae.priors.conditions import make_condition
from audiovae.priors.lengthen import generate
from shards import Manifest, Split
from shards.building.build import build
from shards.inspect import inspect
from shards.verify import verify
from tests.audiovae.tiny_models import awake, command
from tests.train.conftest import RATE, SAMPLES, train
from train.__main__ import run as main_run
from train.encoding.labels import labels_of
from train.evaluation.generation.lineage import labels_in_turn
from train.runs.run_folder import RunDir

PITCHES = {"high": 5000.0, "low": 200.0}
PRIOR = [
    *("--model.transformer.width", "32", "--model.transformer.layers", "2", "--model.transformer.heads", "2"),
    *("--model.transformer.dropout", "0", "--data.batch", "8", "--optim.steps", "60", "--optim.warmup_steps", "5"),
    *(
        "--optim.lr",
        "0.005",
        "--optim.ema",
        "0",
        "--tracking.wandb",
        "disabled",
        "--tracking.evaluate_every",
        "1000",
        "--tracking.every",
        "40",
    ),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with `audio`, its shards `data`, and a `model`; read it only."""
    folder = tmp_path_factory.mktemp("labelled")
    time = np.arange(1.5 * RATE) / RATE
    for name, pitch in PITCHES.items():
        (folder / "audio" / name / "more").mkdir(parents=True)
        for number, file in enumerate(("a", "b", "more/c")):
            tone = 0.5 * np.sin(2 * np.pi * pitch * (1 + 0.02 * number) * time)
            soundfile.write(folder / "audio" / name / f"{file}.wav", tone, RATE)
    soundfile.write(folder / "audio" / "loose.wav", 0.1 * np.sin(time * 4000), RATE)
    build(folder / "audio", folder / "data", samples=SAMPLES, hop=SAMPLES, valid=0.2, workers=1)
    audiovae.save(awake("vqvae", codebooks=2, size=16), folder / "model")
    return folder


def encode(place: Path, out: Path, *more: str) -> int:
    return main_run(["encode", str(place / "model"), str(place / "data"), str(out), "--seconds", "0.2", *more])


@pytest.fixture(scope="module")
def latents(place) -> Path:
    """Latents with the labels of the folders; read it only."""
    assert encode(place, place / "latents", "--labels", "folder") == 0
    return place / "latents"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_record_ends_with_the_label_of_its_recording(place, latents, tmp_path, capsys):
    """Apart from that, records are those of a data set without labels."""
    assert encode(place, tmp_path / "plain") == 0
    labelled, plain = Manifest.load(latents), Manifest.load(tmp_path / "plain")
    assert labelled.settings["latents"] == plain.settings["latents"] | {"labels": ["high", "low"]}
    assert "labels" not in plain.settings
    assert labelled.samples == plain.samples + 1
    for name in plain.splits:
        split, other = Split.open(latents, name), Split.open(tmp_path / "plain", name)
        assert split.names(range(len(split))) == other.names(range(len(other)))
        records, without = (one.read(np.arange(len(one))) for one in (split, other))
        assert torch.equal(records[:, :-1], without)
        paths = [labelled.sources[row].path for row in split.keys()[0]]
        assert records[:, -1].tolist() == [{"high": 1, "low": 2}.get(path.split("/")[0], 0) for path in paths]
    counts = labelled.settings["labels"]["recordings"]
    assert sum(counts) == sum(source.split == "train" for source in labelled.sources)
    capsys.readouterr()
    verify(latents)
    inspect(latents)
    said = capsys.readouterr().out
    assert "every byte as built" in said
    assert "2 labels: high, low" in said


def test_the_label_decides_what_is_drawn(place, latents, tmp_path):
    run = tmp_path / "run"
    train(["prior", "--data", str(latents), "--run-dir", str(run), *PRIOR])
    prior, _ = audiovae.load_prior(run)
    names = prior.latents.labels
    split = Split.open(latents, "train")
    records = split.read(np.arange(len(split)))
    codes = prior.represent(records.float().unsqueeze(1) / 32768)[:, :, :-1]
    known = [shares(codes[records[:, -1] == number]) for number in (1, 2)]
    for number, name in enumerate(names):
        condition = make_condition(names, name, 16, 2.0)
        own, other = known[number], known[1 - number]
        drawn = shares(generate(prior, 0, range(16), prior.latents.frames, condition=condition))
        assert (drawn - own).abs().sum() < 0.8 * (drawn - other).abs().sum()
    words = ["--label", "low", "--guidance", "2", "--seconds", "0.2", "--count", "2"]
    done = command("generate", run, tmp_path / "new", *words)
    assert done.stdout.count("0.2 s at 22050 Hz, low, code prior of") == 2, done.stderr
    refused = command("generate", run, tmp_path / "new", "--label", "harp")
    assert (refused.returncode, refused.stderr) == (1, "error: label 'harp' is unknown: this prior has high, low\n")
    with pytest.raises(audiovae.ModelError, match=r"^--lead_to needs --continue_from, the recording to come from$"):
        commands.generate(run, tmp_path / "new", lead_to=place / "audio" / "loose.wav")
    # Pieces of an evaluation have the labels in the shares of the training recordings.
    counts = Manifest.load(latents).settings["labels"]["recordings"]
    turn = labels_in_turn(RunDir.open(run), names, sum(counts))
    assert [turn.count(name) for name in (None, *names)] == counts
    assert labels_in_turn(RunDir.open(run), [], 4) is None
    shutil.move(latents, tmp_path / "moved")
    try:
        assert labels_in_turn(RunDir.open(run), names, 4).count("low") == 2
    finally:
        shutil.move(tmp_path / "moved", latents)


def shares(codes: torch.Tensor) -> torch.Tensor:
    """The share of each code in each book: codes [n, books, frames] -> [books, 16]."""
    return torch.stack([torch.bincount(book.flatten(), minlength=16) / book.numel() for book in codes.transpose(0, 1)])


def table(folder: Path, *lines: str) -> list[str]:
    """The words that name a CSV file of these lines."""
    (folder / "labels.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return ["--labels", str(folder / "labels.csv")]


def refusal(capsys, place: Path, out: Path, *more: str) -> str:
    """The line of a command that is refused."""
    capsys.readouterr()
    assert encode(place, out, *more) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_table_of_labels_says_what_has_no_partner(place, latents, tmp_path, capsys):
    words = table(tmp_path, "high/a.wav,  bright ", '"low/a.wav","dark, deep"', "other.wav,bright", "low/b.wav,")
    assert encode(place, tmp_path / "out", *words) == 0
    note = "1 of 4 paths of the table are not in the data; 5 of 7 recordings have no label in the table"
    assert f"--labels {words[1]}: {note}\n" in capsys.readouterr().err
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.settings["latents"]["labels"] == ["bright", "dark, deep"]
    # Another table for a finished folder, and none.
    before = content(tmp_path / "out")
    for other in (["--labels", "folder"], []):
        assert "holds latents with other labels" in refusal(capsys, place, tmp_path / "out", *other)
    assert "holds latents with other labels" in refusal(capsys, place, latents)
    assert content(tmp_path / "out") == before
    assert encode(place, tmp_path / "out", *words) == 0
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["high/a.wav,x", "", "low/a.wav"], "line 4 has no label; its first line must name path and label"),
        (["high/a.wav,x", "a, b.wav,x"], "line 3 has more values than columns; put a value with a comma in quotes"),
        (["high/a.wav,x", '"low/a.wav,y'], "cannot be read: after line 2, unexpected end of data"),
        (["high/a.wav,x", "high/a.wav,y"], "high/a.wav is listed twice, with different values"),
        (["high/a.wav,"], "no recording has a label (7 of 7 recordings have no label in the table"),
        (["high/a.wav," + 101 * "x"], "use printable text of 1 to 100 characters"),
        (["high/a.wav,\x1b[31mred"], "use printable text of 1 to 100 characters"),
    ],
    ids=lambda one: str(one)[:20],
)
def test_a_table_that_cannot_be_used_is_one_line(lines, message, place, tmp_path, capsys):
    assert message in refusal(capsys, place, tmp_path / "out", *table(tmp_path, *lines))
    assert not (tmp_path / "out").exists()


def test_labels_that_are_neither_folders_nor_a_table(place, tmp_path, capsys):
    line = refusal(capsys, place, tmp_path / "out", "--labels", "names.txt")
    assert line == "error: --labels names.txt: give `folder`, or a CSV file with the columns path and label"
    assert "none.csv cannot be read: No such file" in refusal(capsys, place, tmp_path / "o", "--labels", "none.csv")


def test_an_unfinished_encoding_is_not_for_other_labels(place, latents, tmp_path, capsys, monkeypatch):
    """With the same ones it goes on, to the bytes of an encoding that nothing disturbed."""
    out = tmp_path / "out"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            encode(place, out, "--labels", "folder")
    kept = content(out)
    for other in ([], table(tmp_path, "high/a.wav,x")):
        line = refusal(capsys, place, out, *other).splitlines()[-1]
        assert f"{out / '.encode'}: an unfinished encoding with other labels; choose another folder" in line
    assert content(out) == kept
    assert encode(place, out, "--labels", "folder") == 0
    assert "7 of 7 recordings were encoded before" in capsys.readouterr().err
    assert content(out) == content(latents)


def test_folders_of_splits_are_no_labels(place):
    """Where the first folder is a split, the label is the second one; joined recordings share theirs."""
    manifest = Manifest.load(place / "data")
    sources = [
        *(("train/low/a.wav", None), ("train/low/b.wav", None), ("valid/high/x/c.wav", None), ("train/d.wav", None)),
        *(("joined low", [[0, 0, 5], [1, 6, 5]]), ("joined both", [[0, 0, 5], [2, 6, 5]])),
    ]
    about = json.loads(json.dumps(vars(manifest.sources[0])))
    rows = [type(manifest.sources[0])(**about | {"path": path, "members": members}) for path, members in sources]
    object.__setattr__(manifest, "sources", rows)
    manifest.settings["split_by_folder"] = True
    labels = labels_of(manifest, range(6), "folder")
    assert [labels.by_row[row] for row in range(6)] == ["low", "low", "high", "", "low", ""]
    assert labels.names == ["high", "low"]
    assert [labels.number(row) for row in range(6)] == [2, 2, 1, 0, 2, 0]
    assert labels.counts(range(6)) == [2, 1, 3]
    mixed = "1 of 6 rows of joined short recordings have several labels and count as none"
    assert labels.note == f"1 of 4 recordings are in no folder; {mixed}"
