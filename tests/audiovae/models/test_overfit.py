import pytest
import torch
from tiny_models import all_terms, make, noise, si_sdr, tones

from train.optim.objective import HVAEWeights, VAEWeights, VQVAEWeights, named

STEPS = 120
WEIGHTS = {"vae": VAEWeights(), "hvae": HVAEWeights(kl=[0.02] * 3), "vqvae": VQVAEWeights()}


@pytest.mark.parametrize("family", ["vae", "vqvae", pytest.param("hvae", marks=pytest.mark.slow(area="pairs"))])
def test_every_family_learns_one_batch_by_heart(family):
    model, audio = make(family), tones(2)
    weights = named(WEIGHTS[family])
    assert (si_sdr(model.eval().reconstruct(audio), audio) < 12).all()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(1, STEPS + 1):
        output = model(audio, noise(len(audio), step))
        terms = all_terms(model, output, audio)
        assert terms.keys() == {name for name, weight in weights.items() if weight}
        loss = sum(weights[name] * term for name, term in terms.items()).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.update(output.statistics, step)
    reached = si_sdr(model.eval().reconstruct(audio), audio)
    assert (reached > 20).all(), reached
