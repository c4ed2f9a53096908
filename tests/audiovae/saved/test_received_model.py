"""A model folder from a stranger: what lies in it instead of files is refused, and nothing outside is touched."""

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
import warnings

import pytest
import soundfile
from markdown_it import MarkdownIt
from tiny_models import change_config, make, plucked

import audiovae
from audiovae import ModelError, ModelWarning
from audiovae.__main__ import main
from audiovae.card import BEGIN, END, read_facts, write_facts
from audiovae.saved.model_folder import seal


@pytest.fixture
def victim(tmp_path):
    """A file elsewhere that must stay as it is; the test ends when something waits for a pipe."""
    file = tmp_path / "victim"
    file.write_bytes(b"precious\n")
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for a pipe"))
    signal.alarm(120)
    yield file
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert file.read_bytes() == b"precious\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    audiovae.save(make("vae"), folder, facts=audiovae.Facts(name="theirs"))
    return folder


def with_trap(saved, tmp_path, victim, name, kind):
    """A copy of the model in which something else stands for one of its files."""
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    (folder / name).unlink(missing_ok=True)
    if kind == "a symbolic link":
        (folder / name).symlink_to(victim)
    elif kind == "a named pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).mkdir()
    return folder


KINDS = ["a symbolic link", "a named pipe", "a folder"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["README.md", "facts.json"])
def test_measures_are_not_added_through_it(name, kind, saved, tmp_path, victim):
    folder = with_trap(saved, tmp_path, victim, name, kind)
    if (name, kind) == ("facts.json", "a symbolic link"):
        victim = shutil.copy(saved / "facts.json", victim)  # facts that can be read
    before = (saved / "facts.json").read_bytes()
    with pytest.raises(ModelError) as caught:
        audiovae.add_measures(folder, {"mse": 0.1}, {})
    if (name, kind) == ("facts.json", "a symbolic link"):
        assert victim.read_bytes() == before
        victim.write_bytes(b"precious\n")
    assert str(caught.value) == f"{folder}/{name}: it is {kind}, not a regular file; remove it"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["README.md", "facts.json", "config.json", "model.safetensors", "decoder.safetensors"])
def test_nothing_is_saved_through_it(name, kind, saved, tmp_path, victim):
    folder = with_trap(saved, tmp_path, victim, name, kind)
    before = sorted(file.name for file in folder.iterdir())
    with pytest.raises(ModelError) as caught:
        make("vae", seed=1).save_pretrained(folder)
    assert str(caught.value) == f"{folder}/{name}: it is {kind}, not a regular file; remove it"
    assert sorted(file.name for file in folder.iterdir()) == before
    for file in folder.iterdir():
        if file.name != name:
            assert file.read_bytes() == (saved / file.name).read_bytes()


def test_it_is_not_sealed_through_a_link(saved, tmp_path, victim):
    folder = with_trap(saved, tmp_path, victim, "config.json", "a symbolic link")
    description = shutil.copy(saved / "config.json", tmp_path / "description")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(description)
    with pytest.raises(ModelError, match=r"config.json: it is a symbolic link, not a regular file; remove it"):
        seal(folder)
    assert description.read_bytes() == (saved / "config.json").read_bytes()


def test_links_of_guessed_temporary_names_are_not_followed(saved, tmp_path, victim):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    for name in ("README.md.tmp", "facts.json.tmp", "config.json.tmp", f".{os.getpid()}.tmp"):
        (folder / name).symlink_to(victim)
    assert audiovae.add_measures(folder, {"mse": 0.1}, {})
    audiovae.load(folder).save_pretrained(folder)
    assert "0.1" in (folder / "README.md").read_text()


def test_a_model_that_is_linked_can_be_loaded_and_is_saved_elsewhere(saved, tmp_path, victim):
    """As in the cache of the Hub: each file of a snapshot is a link."""
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for file in saved.iterdir():
        (linked / file.name).symlink_to(file)
    (tmp_path / "reached-by-a-link").symlink_to(linked)
    model = audiovae.load(tmp_path / "reached-by-a-link")
    model.save_pretrained(tmp_path / "own")
    assert audiovae.fingerprint(audiovae.load(tmp_path / "own")) == audiovae.fingerprint(model)


@pytest.mark.parametrize("name", ["out.wav", "out.safetensors"])
def test_an_output_that_is_no_file_is_refused_before_the_work(name, tmp_path, victim):
    os.mkfifo(tmp_path / name)
    (tmp_path / f"link-{name}").symlink_to(victim)
    write = audiovae.reconstruct_file if name.endswith("wav") else audiovae.encode_file
    for place in (tmp_path / name, tmp_path / f"link-{name}"):
        with pytest.raises(ModelError, match="not a regular file; remove it"):
            write(None, tmp_path / "source.wav", place)


OWNED = "\x1b]0;owned\x07\x1b[31m"
TAG, LINK = "<img src=x onerror=alert(1)>", "[click](javascript:alert(1)) https://evil.example"
HOSTILE = f"{TAG} {LINK} | `x` |\n\n# {TAG}\n{OWNED}"


def hostile_facts(**more):
    return audiovae.Facts(
        name=HOSTILE,
        data={"fingerprint": HOSTILE, HOSTILE: HOSTILE, "list": [HOSTILE]},
        settings={"optim.lr": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}},
        measures={"si_sdr": 1.0, HOSTILE: 2.0},
        measured_on={"split": HOSTILE, "chunks": HOSTILE, "fingerprint": HOSTILE, "when": HOSTILE},
        **more,
    )


def test_a_card_shows_facts_as_mere_text(saved, tmp_path):
    """The facts arrive with a model, and its new owner has the card written or the measures renewed."""
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    (folder / "facts.json").write_text(json.dumps(dataclasses.asdict(hostile_facts())))
    (folder / "README.md").unlink()
    audiovae.load(folder).save_pretrained(tmp_path / "copy")
    written = (tmp_path / "copy" / "README.md").read_text()
    shutil.copy(saved / "README.md", folder)
    assert audiovae.add_measures(folder, {"mse": 0.5, HOSTILE: 1.0}, hostile_facts().measured_on)
    ours = {BEGIN, END, "<details>", "<summary>", "</summary>", "</details>"}
    for card, tables in ((written, 4), ((folder / "README.md").read_text(), 2)):
        assert set(re.findall(r"<[^>]*>?", card)) == ours
        assert all(c.isprintable() or c == "\n" for c in card)
        for sign in ("[click]", "](javascript", "://evil", "<img"):
            assert sign not in card
        tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(card.split("---\n", 2)[2])
        assert sum(token.type == "table_open" for token in tokens) == tables
        inner = {child.type for token in tokens for child in token.children or ()}
        assert inner <= {"text", "code_inline", "softbreak"}
        assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", *["h2"] * 4]


def test_facts_whose_measures_are_no_numbers_are_damaged(saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    for name, value in (("measures", {"mse": HOSTILE}), ("nats_per_second", [HOSTILE])):
        (folder / "facts.json").write_text(json.dumps({name: value}))
        with pytest.raises(ModelError, match=r"facts.json: damaged \(a measure is not a number\); remove it"):
            audiovae.load(folder)


def test_every_flipped_bit_of_the_facts_is_told_or_harmless(tmp_path):
    facts = audiovae.Facts(name="theirs", steps=7, data={"hours": 0.5}, measures={"mse": 0.25})
    write_facts(tmp_path, facts)
    file = tmp_path / "facts.json"
    whole = file.read_bytes()
    told = []
    for place in range(len(whole)):
        for bit in range(8):
            spoiled = bytearray(whole)
            spoiled[place] ^= 1 << bit
            file.write_bytes(spoiled)
            try:
                assert read_facts(tmp_path) == facts  # white space
            except ModelError as error:
                told.append(str(error))
    assert len(told) > 6 * len(whole)
    assert all(one.startswith(f"{file}: damaged (") for one in told)
    assert all(one.endswith("; remove it, the model loads without it") for one in told)
    content = json.loads(whole)
    del content["checksum"]  # as in a file of an older version
    file.write_text(json.dumps(content | {"steps": 8}))
    assert read_facts(tmp_path).steps == 8
    file.write_text(json.dumps(json.loads(whole) | {"steps": 8}))
    with pytest.raises(ModelError, match=r"facts.json: damaged \(its checksum does not match its content\); remove it"):
        read_facts(tmp_path)


@pytest.mark.parametrize("name", ["family", "level", "config"])
def test_errors_about_a_model_are_one_printable_line(name, saved, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    change_config(folder, **{name: {HOSTILE: 1} if name == "config" else HOSTILE})
    with pytest.raises(ModelError) as caught:
        audiovae.load(folder)
    assert str(caught.value).isprintable()
    monkeypatch.setattr(sys, "argv", ["audiovae", "sample", str(folder), str(tmp_path / "out.wav")])
    assert main() == 1
    assert capsys.readouterr().err == f"error: {caught.value}\n"


def test_names_of_recordings(saved, tmp_path, monkeypatch, capsys):
    recording = tmp_path / f"{OWNED}.wav"
    soundfile.write(recording, plucked(1, 9000), 22050)
    monkeypatch.setattr(sys, "argv", ["audiovae", "reconstruct", str(saved), str(recording), f"{tmp_path}/out/"])
    assert main() == 0
    said = capsys.readouterr()
    assert r"\x1b]0;owned\x07\x1b[31m.wav: " in said.out
    assert (said.out + said.err).replace("\n", "").isprintable()


def test_warnings_of_the_library():
    with pytest.warns(ModelWarning) as caught:
        warnings.warn(f"{OWNED}: too loud", ModelWarning, stacklevel=1)
    assert str(caught[0].message) == r"\x1b]0;owned\x07\x1b[31m: too loud"
