import pytest
import torch
from tiny_models import make, noise, tones

pytest.importorskip("vector_quantize_pytorch")

from benchmarks.variants.rival_quantizer import with_rival_quantizer


@pytest.mark.parametrize("kind", ["default", "tuned"])
def test_a_rival_quantizer_behaves_as_an_autoencoder(kind):
    model = with_rival_quantizer(make("vqvae"), kind)
    audio = tones(4)
    output = model(audio, noise(4))
    assert set(output.losses) == set(model.loss_names)
    (model.distances(output.recon, audio)["mse"].mean() + output.losses["commitment"].mean()).backward()
    model.update(output.statistics, 1)
    model.eval()
    codes = model.encode(audio)
    assert codes.shape == (4, 4, 21)
    assert codes.dtype == torch.int64
    recon = model(audio).recon
    torch.testing.assert_close(model.render(recon), model.decode(codes), rtol=1e-3, atol=1e-4)
    between = model.blend(codes[:2], codes[2:], 0.5)
    assert between.shape == (2, 4, 21)
    assert model.decode(between).isfinite().all()
