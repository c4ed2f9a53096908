"""Streams: blocks of any size give what one pass gives, with bounded memory and a known latency."""

from pathlib import Path

import pytest
import torch
import yaml
from causal_models import KINDS, SAMPLES, causal, sounds
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_models import awake

import audiovae
from audiovae import ModelError
from audiovae.models.lengths import stretched

EXACT = {"atol": 1e-5, "rtol": 0}
CONFIGS = Path(__file__).parents[2] / "train" / "configs"
MODELS = {kind: causal(kind) for kind in KINDS}
BLOCKS = st.lists(st.one_of(st.integers(1, 4096), st.integers(1, 30)), min_size=1, max_size=12)


def offline(model: audiovae.Autoencoder, audio: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Latents and output of one pass over audio [B, 1, T], padded with silence to whole frames, cut to T."""
    frame = audiovae.stream(model).frame
    padded = torch.nn.functional.pad(audio, (0, -audio.shape[2] % frame))
    whole = stretched(model, padded.shape[2])
    with torch.no_grad():
        latents = whole.encode(padded)
        return model.to_tensors(latents), whole.decode(latents)[..., : audio.shape[2]]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(blocks=BLOCKS, items=st.integers(1, 2), seed=st.integers(0, 9))
@example(blocks=[3130, 3284, 3037], items=1, seed=0)
def test_blocks_of_any_size_give_what_one_pass_gives(kind, blocks, items, seed):
    model, stream, halves = MODELS[kind], audiovae.stream(MODELS[kind]), audiovae.stream(MODELS[kind])
    audio = sounds(items, sum(blocks), seed)
    wanted, output = offline(model, audio)
    found, parts, decoded = [], [], []
    for block in audio.split(blocks, 2):
        found.append(stream.process_block(block))
        assert found[-1].shape == block.shape
        part = halves.encode_block(block)
        parts.append(model.to_tensors(part))
        decoded.append(halves.decode_block(part))
    found.append(stream.finish())
    late = torch.cat(found, 2)
    assert late[..., : stream.latency].abs().max() == 0
    latents = [torch.cat(level, 2) for level in zip(*parts, strict=True)]
    whole = sum(blocks) // stream.frame * stream.frame
    if model.code_size:
        # Rounding decides between codes that are equally near, so the codes of the stream are the yardstick.
        if not whole:
            return
        model, wanted = stretched(model, whole), latents
        assert model.disagreement(audio[..., :whole], latents[0]) < 1e-6
        with torch.no_grad():
            output = model.decode(latents[0])
        late = late[..., : stream.latency + whole]
    torch.testing.assert_close(late[..., stream.latency :], output, **EXACT)
    torch.testing.assert_close(torch.cat(decoded, 2), output[..., :whole], **EXACT)
    wanted = [own[..., : level.shape[2]] for level, own in zip(latents, wanted, strict=True)]
    if kind == "vae scaled by levels" and whole:
        # Relative to their own scale, latents of quiet bands differ by the rounding of loud ones.
        model = stretched(model, whole)
        latents, wanted = ([*model._of_trunk(levels[0])] for levels in (latents, wanted))
    for level, own in zip(latents, wanted, strict=True):
        torch.testing.assert_close(level, own, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_latents_of_any_number_of_frames_decode_as_one(kind):
    """Also single frames, of which several make a frame of levels, and levels one after the other."""
    model, stream = MODELS[kind], audiovae.stream(MODELS[kind])
    latents, output = offline(model, sounds(1))
    found = []
    if len(latents) == 1:
        parts = [[frame] for frame in latents[0].split(1, 2)]
    else:
        empty = [level[..., :0] for level in latents]
        parts = [[*empty[:i], latents[i], *empty[i + 1 :]] for i in range(len(latents))]
    for part in parts:
        found.append(stream.decode_block(model.from_tensors(part)))
    torch.testing.assert_close(torch.cat(found, 2), output, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_the_future_does_not_change_the_past(kind):
    """Output that is `latency` samples late depends on no later input: by perturbation and by gradient."""
    model, stream = MODELS[kind], audiovae.stream(MODELS[kind])
    audio, other = sounds(1), sounds(1)
    cut = stream.frame + 17
    other[..., cut:] = sounds(1, SAMPLES - cut, seed=5)
    outputs = []
    for version in (audio, other):
        stream.reset()
        outputs.append(torch.cat([stream.process_block(version), stream.finish()], 2))
    assert torch.equal(outputs[0][..., :cut], outputs[1][..., :cut])
    assert not torch.equal(outputs[0], outputs[1])
    if model.code_size:
        return  # codes have no gradient
    audio.requires_grad_()
    model.decode(model.encode(audio))[..., stream.frame - 1].sum().backward()
    assert audio.grad[..., stream.frame :].abs().max() == 0
    assert audio.grad[..., : stream.frame].abs().max() > 0


def test_a_state_is_a_point_to_return_to():
    stream, audio = audiovae.stream(MODELS["vae with levels"]), sounds(2)
    stream.process_block(audio[..., :1000])
    kept = stream.state
    first = stream.process_block(audio[..., 1000:3000])
    stream.state = kept
    assert torch.equal(stream.process_block(audio[..., 1000:3000]), first)
    stream.reset()
    fresh = audiovae.stream(MODELS["vae with levels"])
    assert torch.equal(stream.process_block(audio[:1]), fresh.process_block(audio[:1]))


def test_two_streams_of_a_model_do_not_meet():
    model, audio = MODELS["vae"], sounds(1)
    before = model.reconstruct(audio)
    alone = audiovae.stream(model).process_block(audio)
    one, two = audiovae.stream(model), audiovae.stream(model)
    found = []
    for block in audio.split(333, 2):
        found.append(one.process_block(block))
        two.process_block(block.flip(2))
    torch.testing.assert_close(torch.cat(found, 2), alone, **EXACT)
    assert torch.equal(model.reconstruct(audio), before)


def test_the_gain_is_that_of_the_input():
    model, audio = MODELS["vae with levels"], sounds(1)
    quiet = audiovae.stream(model, gain=8.0).process_block(audio / 8)
    torch.testing.assert_close(quiet * 8, audiovae.stream(model).process_block(audio), atol=1e-4, rtol=0)


def test_arrays_and_plain_recordings_are_taken():
    stream, audio = audiovae.stream(MODELS["vae"]), sounds(1)
    wanted = stream.process_block(audio)
    for version in (audio[0, 0], audio[0, 0].double(), audio[0, 0].numpy()):
        stream.reset()
        assert torch.equal(stream.process_block(version), wanted[0, 0])


def test_a_long_stream_neither_drifts_nor_grows():
    """After ten minutes the output is that of one pass over the last seconds, and the state is as small as before."""
    model = causal("vae with levels", rate=8000)
    stream, block = audiovae.stream(model), sounds(1, 8400)
    held = []
    for number in range(600):
        late = stream.process_block(block)
        assert late.isfinite().all()
        if number in (5, 599):
            state = stream.state
            tensors = [*state.encoder, *state.decoder, *state.latents, state.samples, state.output]
            held.append(sum(tensor.untyped_storage().nbytes() for tensor in tensors))
    assert held[0] == held[1] < 40_000
    # A second is far more than the layers reach, and the noise is that of the position in the stream.
    whole = stretched(stream.model, 2 * 8400)
    with torch.no_grad(), whole.decoding_at([598 * 8400]):
        wanted = whole.reconstruct(torch.cat([block, block], 2))
    count = 8400 - stream.latency
    torch.testing.assert_close(late[..., stream.latency :], wanted[..., 8400 : 8400 + count], **EXACT)


def test_the_causal_preset_has_a_short_latency():
    settings = yaml.safe_load((CONFIGS / "vae_causal_tiny.yaml").read_text())["model"]
    stream = audiovae.stream(audiovae.build("vae", settings, 22050, 22050))
    assert stream.latency_seconds <= 0.05
    assert (stream.latency, stream.frame) == (489, 490)
    twin = yaml.safe_load((CONFIGS / "vae_tiny.yaml").read_text())["model"]
    assert settings == twin | {"trunk": twin["trunk"] | {"causal": True}}


def test_what_cannot_stream_is_refused():
    with pytest.raises(ModelError, match=r"^the model is not causal: .* model\.trunk\.causal true, such as .*causal_t"):
        audiovae.stream(awake("vae"))
    with pytest.raises(ModelError, match="before its codebooks started"):
        audiovae.stream(audiovae.build("vqvae", MODELS["vqvae"].config, SAMPLES, 22050))
    for gain in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ModelError, match="choose a finite number above 0"):
            audiovae.stream(MODELS["vae"], gain)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (torch.zeros(2, 5), r"shape \[2, 5\]: expected \[n\] or \[B, 1, n\]"),
        (torch.zeros(1, 2, 5), r"shape \[1, 2, 5\]"),
        (torch.zeros(0, 1, 5), r"shape \[0, 1, 5\]"),
        (torch.zeros(5, dtype=torch.int16), "expected floats"),
        ([0.0, 0.1], "samples are a list"),
        (torch.tensor([0.0, float("nan")]), "not finite"),
        (torch.zeros(2, 1, 5), r"a block of 2 items in a stream of 1: call reset\(\) first"),
    ],
)
def test_blocks_that_do_not_fit_leave_the_state(block, message):
    stream, audio = audiovae.stream(MODELS["vae"]), sounds(1)
    whole = stream.process_block(audio)
    stream.reset()
    before = stream.process_block(audio[..., :777])
    with pytest.raises(ModelError, match=message):
        stream.process_block(block)
    after = stream.process_block(audio[..., 777:])
    torch.testing.assert_close(torch.cat([before, after], 2), whole, **EXACT)


@pytest.mark.parametrize("kind", ["vae", "hvae", "vqvae"])
def test_latents_that_do_not_fit_are_refused(kind):
    stream = audiovae.stream(MODELS[kind])
    good = MODELS[kind].to_tensors(stream.encode_block(sounds(1)))
    wrong = [good[0][:, :-1], *good[1:]]
    other = [good[0].float() if MODELS[kind].code_size else good[0].long(), *good[1:]]
    for latents in (wrong, other, [level[0] for level in good], [level[:0] for level in good]):
        with pytest.raises(ModelError, match=r"latents do not fit: expected \[B, \d+, n\]"):
            stream.decode_block(MODELS[kind].from_tensors(latents))
    for latents in (None, [], 3):
        with pytest.raises(ModelError, match="latents do not fit"):
            stream.decode_block(latents)
