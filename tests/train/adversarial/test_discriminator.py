"""The networks: lengths, items on their own, and no view of the ends of a chunk."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.adversarial.discriminator import PeriodNetwork, SpectralNetwork, make_discriminator, spectrum
from train.adversarial.discriminator_file import DISCRIMINATOR_FILE, read_discriminator, write_discriminator
from train.adversarial.settings import AdversarialConfig

SMALL = AdversarialConfig(windows=[64, 16], periods=[2, 5], filters=2)
SAMPLES = 1500


def audio(batch: int, samples: int = SAMPLES, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([(SpectralNetwork, 64), (SpectralNetwork, 16), (PeriodNetwork, 2), (PeriodNetwork, 7)]))
def test_the_shortest_chunk_has_a_score_and_a_shorter_one_has_not(case):
    kind, size = case
    network, shortest = kind(size, 2), kind.shortest(size)
    scores, features = network(audio(1, shortest))
    assert scores.numel() >= 1
    assert all(layer.numel() for layer in features)
    with pytest.raises(RuntimeError):
        network(audio(1, shortest - 1))
    only = {"windows": [size], "periods": []} if kind is SpectralNetwork else {"windows": [], "periods": [size]}
    with pytest.raises(ValueError, match=f"needs chunks of {shortest:,} samples"):
        make_discriminator(AdversarialConfig(**only), shortest - 1, 0)


def test_a_batch_is_judged_item_by_item():
    """Nothing is normalised over items, and the first and second half of a batch are those put together."""
    networks = make_discriminator(SMALL, SAMPLES, 1)
    together = networks(torch.cat([audio(2), audio(2, seed=1)]))
    first, second = together.halves()
    for half, alone in ((first, networks(audio(2))), (second, networks(audio(2, seed=1)))):
        assert len(half.scores) == 4
        for a, b in zip(half.scores, alone.scores, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
        for layers, others in zip(half.features, alone.features, strict=True):
            assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(layers, others, strict=True))


def test_weights_are_a_function_of_the_seed_and_leave_the_random_state_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one, other, third = (make_discriminator(SMALL, SAMPLES, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], third[name]) for name in one)


def test_the_spectrum_of_a_sine_has_its_compressed_amplitude():
    """A full-scale sine has magnitude 1; a hundredth of it a tenth."""
    time = torch.arange(4096)
    sine = torch.sin(2 * math.pi * 8 / 64 * time).view(1, 1, -1)
    for amplitude, expected in ((1.0, 1.0), (0.01, 0.1)):
        found = spectrum(amplitude * sine, 64).square().sum(1).sqrt()
        assert found[..., 8].mean().item() == pytest.approx(expected, rel=0.01)
    silent = torch.zeros(1, 1, 512, requires_grad=True)
    spectrum(silent, 64).sum().backward()
    assert silent.grad is not None
    assert silent.grad.isfinite().all()


def test_spectra_and_scores_are_float32_under_bfloat16():
    networks = make_discriminator(SMALL, SAMPLES, 1)
    with torch.autocast("cpu", torch.bfloat16):
        judged = networks(audio(1).bfloat16())
    assert {scores.dtype for scores in judged.scores} == {torch.float32}
    assert {layer.dtype for layers in judged.features for layer in layers} == {torch.bfloat16}


def test_the_file_comes_back_and_a_damaged_one_is_named(tmp_path):
    networks = make_discriminator(SMALL, SAMPLES, 1)
    assert read_discriminator(tmp_path) is None
    write_discriminator(tmp_path, networks.state_dict(), SMALL.shape)
    back = read_discriminator(tmp_path)
    assert back is not None
    assert all(torch.equal(back[name], value) for name, value in networks.state_dict().items())
    place = tmp_path / DISCRIMINATOR_FILE
    content = bytearray(place.read_bytes())
    for _ in range(8):
        write_discriminator(tmp_path, networks.state_dict(), SMALL.shape)
        assert place.read_bytes() == content, "equal states are equal files"
    for at in (3, 20, len(content) - 2):
        spoiled = bytearray(content)
        spoiled[at] ^= 1
        place.write_bytes(spoiled)
        with pytest.raises(ValueError, match="damaged"):
            read_discriminator(tmp_path)
    write_discriminator(tmp_path, {"a": torch.tensor([1.0, torch.nan])}, SMALL.shape)
    with pytest.raises(ValueError, match="not all finite float32 numbers"):
        read_discriminator(tmp_path)
    place.write_bytes(content[:100])
    with pytest.raises(ValueError, match="damaged"):
        read_discriminator(tmp_path)
