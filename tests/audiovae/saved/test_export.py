"""Encoder and decoder as programs, run as another program would run them."""

import itertools
import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_models import FAMILIES, LEVELED, SAMPLES, awake, make, tones

import audiovae
from audiovae import ModelError
from audiovae.__main__ import main
from audiovae.saved import export

MEL = {
    "representation": {"kind": "mel", "bands": 32, "n_fft": 512, "hop": 105, "iterations": 3},
    "trunk": {"strides": [3], "channels": [32], "blocks": 1, "kernel": 3},
}


def run(folder, half: str, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Runs an exported half by what export.json says of it alone."""
    about = json.loads((folder / "export.json").read_text())
    signature = about[half]
    for told, tensor in zip(signature["inputs"], tensors, strict=True):
        assert told["shape"] == ["batch", *tensor.shape[1:]]
        assert f"torch.{told['dtype']}" == str(tensor.dtype)
    if about["format"] == "torch":
        outputs = list(torch.export.load(folder / signature["file"]).module()(*tensors))
    elif about["format"] == "torchscript":
        outputs = list(torch.jit.load(folder / signature["file"])(*tensors))
        assert not any(output.requires_grad for output in outputs)
    else:
        session = onnxruntime.InferenceSession(folder / signature["file"])
        assert [given.shape for given in session.get_inputs()] == [told["shape"] for told in signature["inputs"]]
        names = [told["name"] for told in signature["inputs"]]
        given = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        found = session.run([told["name"] for told in signature["outputs"]], given)
        outputs = [torch.from_numpy(output) for output in found]
    for told, output in zip(signature["outputs"], outputs, strict=True):
        assert told["shape"] == ["batch", *output.shape[1:]]
        assert f"torch.{told['dtype']}" == str(output.dtype)
    return outputs


# One family in both newer formats, and each in traces. The other pairs are `slow`: these cover most of their
# operators and signatures. Traces take little time.
QUICK = {("vqvae", "torch"), ("vqvae", "onnx")}
PAIRS = [
    pytest.param(
        family, kind, marks=() if (family, kind) in QUICK or kind == "torchscript" else pytest.mark.slow(area="export")
    )
    for family, kind in itertools.product([*FAMILIES, *LEVELED], ["torch", "torchscript", "onnx"])
]


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_programs_do_what_the_model_does(family, kind, tmp_path, capsys, monkeypatch):
    model, audio = awake(family).eval(), tones(4)
    audiovae.save(model, tmp_path / "model")
    monkeypatch.setattr(sys, "argv", ["audiovae", "export", "model", "out", "--format", kind])
    monkeypatch.chdir(tmp_path)
    assert main() == 0
    said = capsys.readouterr().out
    assert said.count("differs from PyTorch by at most") == 2
    suffix = {"torch": "pt2", "torchscript": "ts", "onnx": "onnx"}[kind]
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {f"encoder.{suffix}", f"decoder.{suffix}", "export.json"}
    with torch.no_grad():
        latents = model.to_tensors(model.encode(audio))
        found = run(out, "encoder", audio)
        assert model.disagreement(audio, model.from_tensors(found)) < 1e-4
        torch.testing.assert_close(run(out, "decoder", *latents)[0], model.reconstruct(audio), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["torch", "torchscript"])
def test_mel_spectrograms(kind, tmp_path):
    model = make("vae", **MEL).eval()
    audiovae.saved.export.export_model(model, tmp_path / kind, kind)
    latents = model.encode(tones(1))
    torch.testing.assert_close(run(tmp_path / kind, "encoder", tones(1))[0], latents, rtol=0, atol=1e-4)
    audio = run(tmp_path / kind, "decoder", latents.detach())[0]
    torch.testing.assert_close(audio, model.reconstruct(tones(1)), rtol=0, atol=1e-4)
    with pytest.raises(
        ModelError, match=r"Griffin-Lim, and ONNX has no inverse STFT; choose --format torch or torchscript$"
    ):
        export.export_model(model, tmp_path / "onnx", "onnx")
    assert not (tmp_path / "onnx").exists()


def test_programs_that_differ_are_not_left(tmp_path, monkeypatch):
    """The command's own comparison finds a program that is wrong."""
    model = awake("vae").eval()
    writer = export.WRITERS["torch"]

    def wrong(*arguments):
        program = writer(*arguments)
        return lambda *tensors: tuple(part + 2e-4 for part in program(*tensors))

    monkeypatch.setitem(export.WRITERS, "torch", wrong)
    with pytest.raises(ModelError, match=r"encoder: the torch program differs from PyTorch by 0\.0002"):
        export.export_model(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_the_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "ONNX_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ModelError, match=r"needs no_such_package; run: pip install no_such_package$"):
        export.export_model(awake("vae").eval(), tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_codes_that_are_not_the_nearest_disagree():
    """Other codes are worse unless two are as near; the model's own are the best."""
    model, audio = awake("vqvae").eval(), tones(3)
    codes = model.encode(audio)
    assert model.disagreement(audio, codes) == 0
    other = codes.clone()
    other[0, 0, 0] = (other[0, 0, 0] + 7) % model.code_size
    assert model.disagreement(audio, other) > 1e-3


def test_the_probe_is_audio_at_the_level_of_training():
    audio = export.probe(3, SAMPLES)
    assert audio.shape == (3, 1, SAMPLES)
    assert 0.9 < np.abs(audio[0].numpy()).max() < 1
    assert audio.abs().amax((1, 2)).diff().max() < 0
