"""A model folder from a stranger: what lies in it instead of files is refused, and nothing outside is touched."""

import os
import shutil
import signal

import pytest
from tiny_models import make

import audiovae
from audiovae import ModelError
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
