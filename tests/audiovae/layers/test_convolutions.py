"""Causal layers: what they may see, how they start, and what they refuse."""

import copy
import dataclasses
import hashlib
import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONFIGS, RATE, SAMPLES, TRUNK, make

import audiovae
from audiovae.layers.convolutions import CausalConv1d, CausalConvTranspose1d, Memory, remember
from audiovae.layers.transforms import block_cosines
from audiovae.layers.trunk import Decoder, Encoder, TrunkConfig, residual_stack

EXACT = {"atol": 1e-5, "rtol": 0}


@settings(max_examples=40, deadline=None)
@given(
    strides=st.lists(st.integers(2, 7), min_size=1, max_size=3),
    blocks=st.integers(0, 3),
    kernel=st.sampled_from([1, 3, 5]),
    seed=st.integers(0, 99),
)
def test_no_layer_of_a_trunk_sees_the_future(strides, blocks, kernel, seed):
    """Lengths are exact, and other input after a frame leaves all up to it bit for bit as it was."""
    torch.manual_seed(seed)
    config = TrunkConfig(strides, [4] * len(strides), blocks, kernel, causal=True)
    encoder, decoder = Encoder(1, config, "waveform"), Decoder(1, config, "waveform")
    for parameter in [*encoder.parameters(), *decoder.parameters()]:
        torch.nn.init.normal_(parameter, std=0.3)
    frame = torch.tensor(strides).prod().item()
    audio = torch.randn(1, 1, 4 * frame)
    other = audio.clone()
    other[..., 2 * frame :] = torch.randn(1, 1, 2 * frame)
    latents, after = encoder(audio)[-1], encoder(other)[-1]
    assert latents.shape == (1, 4, 4)
    assert torch.equal(latents[..., :2], after[..., :2])
    assert not torch.equal(latents[..., 2:], after[..., 2:])
    output, changed = decoder(latents), decoder(after)
    assert output.shape == audio.shape
    assert torch.equal(output[..., : 2 * frame], changed[..., : 2 * frame])
    assert not torch.equal(output, changed)


@settings(max_examples=40, deadline=None)
@given(
    stride=st.integers(1, 5),
    taps=st.integers(1, 3),
    dilation=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 12), max_size=5),
    up=st.booleans(),
)
def test_a_layer_with_a_memory_takes_any_blocks(stride, taps, dilation, cuts, up):
    """Blocks one after the other give what the whole gives; a fresh memory starts again."""
    torch.manual_seed(0)
    if up:
        layer, size = CausalConvTranspose1d(2, 3, stride), 1
    else:
        dilation = dilation if stride == 1 else 1
        layer, size = CausalConv1d(2, 3, taps * stride, stride=stride, dilation=dilation), stride
    x = torch.randn(2, 2, 12 * size)
    whole, memory = layer(x), Memory()
    remember(layer, memory)
    edges = [0, *sorted(cuts), 12]
    found = []
    for first, last in itertools.pairwise(edges):
        if first < last:
            memory.begin()
            found.append(layer(x[..., first * size : last * size]))
    torch.testing.assert_close(torch.cat(found, 2), whole, **EXACT)
    memory.states.clear()
    memory.begin()
    torch.testing.assert_close(layer(x), whole, **EXACT)
    remember(layer, None)
    assert torch.equal(layer(x), whole)


def test_a_memory_counts_frames():
    memory, found = Memory(), []
    for frames in (3, 0, 2):
        memory.begin()
        found.append(memory.counted(torch.zeros(2, 1, 1), frames).flatten().tolist())
    assert found == [[0, 0], [3, 3], [3, 3]]
    assert memory.states[0].flatten().tolist() == [5, 5]


@pytest.mark.parametrize("bands", [2, 3, 15, 98])
def test_block_cosines_are_orthonormal(bands):
    rows = block_cosines(bands)
    torch.testing.assert_close(rows @ rows.T, torch.eye(bands), **EXACT)


def test_causal_residual_blocks_start_as_the_identity():
    x = torch.randn(2, 4, 30)
    assert torch.equal(residual_stack(4, 3, 3, causal=True)(x), x)


@pytest.mark.parametrize(
    ("kind", "signature"),
    [
        ("hvae", "c3ea8f8d539ca6d8"),
        ("vae", "977e29c40ac85e8c"),
        ("vqvae", "10a6cc321cc80f2d"),
        ("hvae with levels", "b1340e2567364480"),
        ("vae with levels", "011ce3ba91476061"),
        ("vqvae with levels", "568260c293bc8363"),
    ],
)
def test_models_without_it_are_as_before(kind, signature):
    """Names and shapes of all weights have the hash of the version before; a causal twin has the same ones."""
    model = make(kind)
    names = json.dumps([(name, list(value.shape)) for name, value in model.state_dict().items()])
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == signature
    assert not any(isinstance(layer, CausalConv1d | CausalConvTranspose1d) for layer in model.modules())
    config = dataclasses.asdict(model.config)
    again, twin = copy.deepcopy(config), copy.deepcopy(config)
    del again["trunk"]["causal"]
    twin["trunk"]["causal"] = True
    torch.manual_seed(0)
    assert audiovae.fingerprint(audiovae.build(model.family, again, SAMPLES, RATE)) == audiovae.fingerprint(model)
    torch.manual_seed(0)
    twin = audiovae.build(model.family, twin, SAMPLES, RATE)
    assert [*twin.state_dict()] == [*model.state_dict()]
    assert audiovae.fingerprint(twin) != audiovae.fingerprint(model)
    assert not any(type(layer) in (torch.nn.Conv1d, torch.nn.ConvTranspose1d) for layer in padded_layers(twin))


def padded_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """All convolutions that see more than their own frame."""
    kinds = torch.nn.Conv1d | torch.nn.ConvTranspose1d
    return [layer for layer in model.modules() if isinstance(layer, kinds) and layer.kernel_size[0] > 1]


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_what_cannot_be_causal_is_refused(family):
    trunk = {"strides": [3], "channels": [32], "blocks": 1, "causal": True}
    mel = {"kind": "mel", "bands": 32, "n_fft": 512, "hop": 105}
    with pytest.raises(ValueError, match=r"^trunk\.causal is true, but Griffin-Lim needs .*: set trunk\.causal to fal"):
        audiovae.build(family, CONFIGS[family] | {"trunk": trunk, "representation": mel}, SAMPLES, RATE)
    with pytest.raises(ValueError, match="causal must be true or false, not 1"):
        audiovae.build(family, CONFIGS[family] | {"trunk": TRUNK | {"causal": 1}}, SAMPLES, RATE)


def test_pooled_latents_cannot_be_causal():
    with pytest.raises(ValueError, match=r"^trunk\.causal is true, but pooled latents need the whole chunk: set"):
        audiovae.build("vae", CONFIGS["vae"] | {"trunk": TRUNK | {"causal": True}, "pooled": True}, SAMPLES, RATE)
