import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONFIGS, FAMILIES, si_sdr

import audiovae
from audiovae.layers.trunk import (
    Decoder,
    Encoder,
    TrunkConfig,
    downsample,
    frames_after,
    lapped_cosines,
    residual_stack,
    start_as_lapped_cosines,
    start_as_selection,
    upsample,
)


def pair_of_layers(fine: int, coarse: int, stride: int, start) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A strided layer and its mirror that hold the exact transform alone, without the random share."""
    layers = downsample(fine, coarse, stride), upsample(coarse, fine, stride)
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.bias.zero_()
            start(layer.weight, layer.padding[0])
    return layers


@settings(max_examples=60, deadline=None)
@given(
    strides=st.lists(st.integers(2, 9), min_size=1, max_size=4),
    coarsest=st.integers(1, 5),
    inputs=st.sampled_from([1, 3]),
    kernel=st.sampled_from([1, 3, 5]),
)
def test_lengths_are_exact_and_the_decoder_mirrors_the_encoder(strides, coarsest, inputs, kernel):
    length = math.prod(strides) * coarsest
    config = TrunkConfig(strides, [2 + i for i in range(len(strides))], blocks=1, kernel=kernel)
    audio = torch.randn(2, inputs, length)
    features = Encoder(inputs, config, "waveform")(audio)
    frames = frames_after(length, strides)
    assert [f.shape for f in features] == [(2, c, n) for c, n in zip(config.channels, frames, strict=True)]
    assert frames[-1] == coarsest
    assert Decoder(inputs, config, "waveform")(features[-1]).shape == audio.shape


@pytest.mark.parametrize("family", FAMILIES)
def test_strides_that_do_not_divide_the_chunk_are_refused(family):
    with pytest.raises(ValueError, match=r"15 does not divide 2204 frames.*divisor of the chunk's length"):
        audiovae.build(family, CONFIGS[family], 2204, 22050)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": [5, 1]}, "stride of 1"),
        ({"strides": [5, 0]}, "stride of 0"),
        ({"strides": [5]}, "one width for each stride"),
        ({"strides": [], "channels": []}, "one width for each stride"),
        ({"channels": [8, 0]}, "positive"),
        ({"kernel": 4}, "kernel is 4"),
    ],
)
def test_shapes_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrunkConfig(**{"strides": [5, 3], "channels": [8, 8], **changes})


@pytest.mark.parametrize("bands", [2, 3, 15, 49])
def test_lapped_cosines_are_orthonormal(bands):
    rows = lapped_cosines(bands)
    torch.testing.assert_close(rows @ rows.T, torch.eye(bands), atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [2, 3, 15, 42, 49])
def test_lapped_cosines_reconstruct_the_inside_exactly(stride):
    down, up = pair_of_layers(1, stride, stride, lambda weight, _: start_as_lapped_cosines(weight, stride))
    audio = torch.randn(2, 1, stride * 6)
    output = up(down(audio))
    # Only the ends, which a single frame covers, are lost.
    inside = slice(stride, -stride)
    torch.testing.assert_close(output[..., inside], audio[..., inside], atol=1e-4, rtol=0)
    assert (output - audio).abs().max() > 0.1


@pytest.mark.parametrize("stride", [2, 15])
def test_each_channel_of_a_waveform_is_transformed_alone(stride):
    """Two audio channels start as two lapped transforms, not as cosines over the channels."""
    down, up = pair_of_layers(2, 2 * stride, stride, lambda weight, _: start_as_lapped_cosines(weight, stride))
    audio = torch.randn(2, 2, stride * 6)
    inside = slice(stride, -stride)
    torch.testing.assert_close(up(down(audio))[..., inside], audio[..., inside], atol=1e-4, rtol=0)
    alone, _ = pair_of_layers(1, stride, stride, lambda weight, _: start_as_lapped_cosines(weight, stride))
    for channel in (0, 1):
        torch.testing.assert_close(down(audio)[:, channel::2], alone(audio[:, channel : channel + 1]))
    trunk = TrunkConfig([stride], [3], blocks=1)
    for layer in (Encoder(2, trunk, "waveform").stages[0][0], Decoder(2, trunk, "waveform").stages[0][1]):
        # Three channels have room for band 0 of both audio channels and band 1 of the first.
        kept = [layer.weight[row, row % 2] @ lapped_cosines(stride)[row // 2] for row in range(3)]
        assert min(kept) > 0.9


@pytest.mark.parametrize("stride", [2, 3, 5, 7])
def test_selection_folds_time_into_channels_without_loss(stride):
    down, up = pair_of_layers(
        4, 4 * stride, stride, lambda weight, padding: start_as_selection(weight, stride, padding)
    )
    audio = torch.randn(2, 4, stride * 6)
    assert torch.equal(up(down(audio)), audio)


def test_selection_keeps_the_lowest_bands_when_there_is_no_room_for_all():
    down, up = pair_of_layers(4, 6, 3, lambda weight, padding: start_as_selection(weight, 3, padding))
    audio = torch.randn(1, 4, 12)
    output = up(down(audio))
    assert torch.equal(output[:, :2], audio[:, :2])
    assert output[:, 2:].abs().max() == 0


def test_residual_blocks_start_as_the_identity_and_can_leave_it():
    stack, x = residual_stack(4, 3, 3), torch.randn(2, 4, 30)
    assert torch.equal(stack(x), x)
    stack(x).square().sum().backward()
    assert all(block.point.weight.grad.abs().max() > 0 for block in stack)


@pytest.mark.parametrize("causal", [False, True])
def test_a_fresh_vae_is_already_a_codec_of_low_tones(causal):
    """The start keeps the lowest of the bands, so what lies there comes through before any training."""
    torch.manual_seed(0)
    trunk = {"strides": [49, 5, 2], "channels": [96, 256, 256], "blocks": 1, "kernel": 3, "causal": causal}
    model = audiovae.build("vae", {"trunk": trunk, "latent": 64}, 22050, 22050).eval()
    t = torch.arange(22050) / 22050
    low, high = (torch.sin(2 * torch.pi * hertz * t).view(1, 1, -1) for hertz in (330, 5000))
    assert si_sdr(model.reconstruct(0.5 * low), low) > 12
    assert si_sdr(model.reconstruct(0.5 * high), high) < 0


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("kernel", -1, "odd and at least 1"),
        ("kernel", 0, "odd and"),
        ("kernel", 4, "odd and"),
        ("blocks", -1, "at least 0"),
    ],
)
def test_kernels_and_blocks_out_of_range_are_named(setting, value, allowed):
    with pytest.raises(ValueError, match=f"trunk.{setting} is {value}: it must be {allowed}"):
        TrunkConfig([2], [4], **{setting: value})


@pytest.mark.parametrize("causal", [False, True])
def test_under_bf16_quiet_bands_keep_their_precision(causal):
    """The error of each band is far below its own level, though the highest is 60 dB below the lowest."""
    stride = 32
    down = downsample(1, stride, stride, "waveform", causal)
    up = upsample(stride, 1, stride, "waveform", causal)
    noise = torch.fft.rfft(torch.randn(200 * stride, generator=torch.Generator().manual_seed(0)))
    audio = torch.fft.irfft(noise * 10 ** (-3 * torch.linspace(0, 1, len(noise)))).view(1, 1, -1)
    exact = up(down(audio))
    with torch.autocast("cpu", torch.bfloat16):
        bands = down(audio)
        rounded = up(bands)
    assert (bands.dtype, rounded.dtype) == (torch.bfloat16, torch.float32)
    error, level = (
        torch.fft.rfft(each.flatten()).abs()[:-1].square().unflatten(0, (8, -1)).mean(1)
        for each in (rounded - exact, exact)
    )
    assert (10 * torch.log10(error / level)).max() < -35
    rounded.square().mean().backward()
    assert down.weight.grad is not None
    assert down.weight.grad.dtype == torch.float32
    assert torch.equal(up(down(audio)), exact)


def test_a_model_that_was_cast_works_under_autocast_and_shapes_need_no_device():
    down = downsample(1, 8, 8, "waveform").bfloat16()
    audio = torch.randn(1, 1, 80)
    with torch.autocast("cpu", torch.bfloat16):
        assert down(audio).dtype == torch.bfloat16
    with torch.device("meta"):
        assert downsample(1, 8, 8, "waveform")(torch.zeros(1, 1, 80)).shape == (1, 8, 10)
