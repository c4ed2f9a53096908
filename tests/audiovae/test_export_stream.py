"""Exported streams: programs that carry their state do what the stream does, by what export.json says of them alone."""

import json
import sys

import onnxruntime
import pytest
import torch
from causal_models import KINDS, causal, sounds
from tiny_models import awake

import audiovae
from audiovae import ModelError, export_stream
from audiovae.__main__ import main
from audiovae.export_stream import StreamDecoder, StreamEncoder

EXACT = {"atol": 1e-5, "rtol": 0}


class Half:
    """An exported half that keeps its state between calls."""

    def __init__(self, folder, half: str, items: int) -> None:
        about = json.loads((folder / "export.json").read_text())
        self.about = about[half]
        self.names = [told["name"] for told in self.about["outputs"]]
        file = folder / self.about["file"]
        if about["format"] == "torch":
            self.program = torch.export.load(file).module()
        elif about["format"] == "torchscript":
            self.program = torch.jit.load(file)
        else:
            session = onnxruntime.InferenceSession(file)
            self.program = lambda *given: [
                torch.from_numpy(value)
                for value in session.run(
                    self.names,
                    {told["name"]: v.numpy() for told, v in zip(self.about["inputs"], given, strict=True)},
                )
            ]
        first = [told for told in self.about["inputs"] if told["name"].startswith("state_")]
        assert len(first) == self.about["states"]
        self.states = [torch.zeros(items, *told["shape"][1:], dtype=getattr(torch, told["dtype"])) for told in first]

    def __call__(self, *block: torch.Tensor) -> list[torch.Tensor]:
        found = list(self.program(*block, *self.states))
        count = len(found) - self.about["states"]
        self.states = found[count:]
        return found[:count]


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        pytest.param("vae", "onnx", marks=pytest.mark.slow(area="export")),
        pytest.param("vqvae", "torch", marks=pytest.mark.slow(area="export")),
        *((kind, "torchscript") for kind in KINDS),
    ],
)
def test_programs_do_what_the_stream_does(kind, format, tmp_path, monkeypatch, capsys):
    model, items = causal(kind), 3
    audiovae.save(model, tmp_path / "model")
    monkeypatch.setattr(sys, "argv", ["audiovae", "export", "model", "out", "--format", format, "--stream", "true"])
    monkeypatch.chdir(tmp_path)
    assert main() == 0
    assert capsys.readouterr().out.count("differs from the stream by at most") == 2
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    stream = audiovae.stream(model)
    assert (about["frame"], about["latency"]) == (stream.frame, stream.latency)
    encoder, decoder = (Half(tmp_path / "out", half, items) for half in ("encoder", "decoder"))
    for block in sounds(items, 12 * stream.frame).split(stream.frame, 2):
        wanted = model.to_tensors(stream.encode_block(block))
        for found, own in zip(encoder(block.contiguous()), wanted, strict=True):
            torch.testing.assert_close(found, own, atol=1e-4, rtol=0)
        output = stream.decode_block(model.from_tensors(wanted))
        torch.testing.assert_close(decoder(*wanted)[0], output, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_without_export_does_what_the_stream_does(kind):
    """Every family and its levels; exporting adds what `test_programs_do_what_the_stream_does` sees."""
    model, stream = causal(kind), audiovae.stream(causal(kind))
    encoder, decoder = StreamEncoder(model, stream.frame), StreamDecoder(model, stream.frame)
    encoded, decoded, levels = [], [], len(model.latent_shapes)
    with torch.no_grad():
        for block in sounds(2, 4 * stream.frame).split(stream.frame, 2):
            wanted = model.to_tensors(stream.encode_block(block))
            found = encoder(block, *encoded)
            latents, encoded = found[:levels], found[levels:]
            audio, *decoded = decoder(*wanted, *decoded)
            for one, other in zip(latents, wanted, strict=True):
                torch.testing.assert_close(one, other, **EXACT)
            torch.testing.assert_close(audio, stream.decode_block(model.from_tensors(wanted)), **EXACT)


@pytest.mark.parametrize("off", [0, -1])
def test_programs_that_differ_are_not_left(off, tmp_path, monkeypatch):
    """The comparison sees an output that is wrong, and a state that is."""
    writer = export_stream.WRITERS["torch"]

    def wrong(program, inputs, takes, gives, file):
        run = writer(program, inputs, takes, gives, file)

        def changed(*tensors):
            found = list(run(*tensors))
            found[off] = found[off] + 2e-4
            return found

        return changed

    monkeypatch.setitem(export_stream.WRITERS, "torch", wrong)
    with pytest.raises(ModelError, match=r"^encoder: the torch program differs from the stream by 0\.0002, more than"):
        export_stream.export_stream(causal("vae"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_causal_is_one_line(tmp_path, monkeypatch, capsys):
    audiovae.save(awake("vae"), tmp_path / "model")
    monkeypatch.setattr(sys, "argv", ["audiovae", "export", "model", "out", "--stream", "true"])
    monkeypatch.chdir(tmp_path)
    assert main() == 1
    said = capsys.readouterr().err
    assert said.startswith("error: model: the model is not causal")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
