"""A full disk is one line that says so, and leaves nothing half-written: on a file system of 128 kB."""

import os
import shutil
import subprocess

import pytest
import soundfile
from tiny_models import awake, command, plucked

import audiovae
from audiovae import ModelError
from audiovae.output import write_whole
from shards.files import why_unwritable


@pytest.fixture
def full(tmp_path):
    """A folder with room for 8 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"no file system may be mounted: {done.stderr.strip()}")
    (folder / "filling").write_bytes(b"\1" * (120 << 10))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "vae"
    audiovae.save(awake("vae"), folder)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("reconstruct", "M", "a.wav", "D/out.wav"),
        ("encode", "M", "a.wav", "D/out.safetensors"),
        ("sample", "M", "D/out.wav"),
        ("interpolate", "M", "a.wav", "b.wav", "D/deep/out.wav"),
        ("export", "M", "D/programs"),
        pytest.param(("export", "M", "D/programs", "--format", "onnx"), marks=pytest.mark.slow(area="export")),
    ],
    ids=lambda words: " ".join(words[:1] + words[4:]),
)
def test_the_commands(words, full, model_dir, tmp_path):
    for seed, name in enumerate(("a.wav", "b.wav")):
        soundfile.write(tmp_path / name, plucked(seed, 22050), 22050)
    places = {"M": str(model_dir), "D": str(full)}
    words = [
        places.get(first, str(tmp_path / first) if first.endswith(".wav") else first) + slash + rest
        for first, slash, rest in (word.partition("/") for word in words)
    ]
    done = command(*words)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert "cannot be written (No space left on device)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert ".tmp" not in done.stderr
    assert [file.name for file in full.iterdir()] == ["filling"]


def test_the_library(full):
    for write in (
        lambda: audiovae.save(awake("vae"), full / "a"),
        lambda: awake("vae").save_pretrained(full / "b" / "c"),
    ):
        with pytest.raises(ModelError, match=r"[ac]: cannot be written \(No space left on device\)"):
            write()
    assert [file.name for file in full.iterdir()] == ["filling"]


def test_an_earlier_output_stays(full):
    shutil.rmtree(full / "filling", ignore_errors=True)
    (full / "out.wav").write_bytes(b"earlier")
    with pytest.raises(ModelError, match="No space left"):
        write_whole(full / "out.wav", b"\1" * (200 << 10))
    assert (full / "out.wav").read_bytes() == b"earlier"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ModelError, match=r"may not be written to|Permission denied"):
        audiovae.save(awake("vae"), tmp_path / "model")
    tmp_path.chmod(0o700)


def test_no_error_names_a_temporary_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError) as caught:
        write_whole(tmp_path / "file" / "out.wav", b"")
    assert str(caught.value) == f"{tmp_path}/file/out.wav: cannot be written (Not a directory)"
    with pytest.raises(ModelError) as caught:
        write_whole(tmp_path / ("x" * 256), b"")
    assert str(caught.value).endswith("cannot be written (File name too long)")


def test_what_libraries_say_is_made_plain():
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert why_unwritable(RuntimeError(said)) == "No space left on device"
    assert why_unwritable(RuntimeError("a\nb")) == "a"
