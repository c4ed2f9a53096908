import contextlib

import pytest
import torch
from tiny_models import FAMILIES, LEVELED, all_terms, awake, gradients, hard_signals, make, noise, tones

PRECISIONS = {
    "float32": contextlib.nullcontext,
    "bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


def check(model, audio: torch.Tensor, precision: str = "float32") -> None:
    """One pass and its gradients are finite, and every parameter takes part."""
    with PRECISIONS[precision]():
        output = model(audio, noise(len(audio)))
    terms = all_terms(model, output, audio)
    for name, term in terms.items():
        assert term.shape == (len(audio),), name
        assert term.dtype == torch.float32, name
        assert term.isfinite().all(), name
    for name, value in output.metrics.items():
        assert value.isfinite(), name
        assert not value.requires_grad, name
    assert output.recon.isfinite().all()
    model.zero_grad()
    sum(term.sum() for term in terms.values()).backward()
    grads = gradients(model)
    assert grads.keys() == dict(model.named_parameters()).keys()
    for name, grad in grads.items():
        assert grad.isfinite().all(), name
    for name, value in (output.statistics.sums | output.statistics.items).items():
        assert value.isfinite().all(), name


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("signal", hard_signals())
@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED])
def test_hard_signals_give_finite_losses_and_gradients(family, signal, precision):
    model, audio = awake(family), hard_signals()[signal]
    check(model, audio, precision)
    check(model.eval(), audio, precision)


@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED])
def test_a_fresh_model_on_a_whole_batch(family):
    audio = torch.cat([tones(1), *hard_signals().values()])
    check(make(family), audio)
    check(make(family).eval(), audio)


@pytest.mark.parametrize("signal", hard_signals())
def test_codebooks_started_from_a_hard_signal(signal):
    """Even where all vectors are alike and their variance is nothing."""
    model, audio = make("vqvae"), hard_signals()[signal]
    for step in (20, 21, 22):
        model.update(model(audio, noise(1)).statistics, step)
        assert all(buffer.isfinite().all() for buffer in model.buffers())
        check(model, audio)
    model.quantizer.variance.zero_()
    check(model, audio)


@pytest.mark.parametrize("family", FAMILIES)
def test_autocast_changes_little(family):
    model, audio = awake(family).eval(), tones(2)
    with torch.no_grad():
        exact = all_terms(model, model(audio, noise(2)), audio)
        with PRECISIONS["bfloat16"]():
            output = model(audio, noise(2))
        rough = all_terms(model, output, audio)
    for name in exact:
        torch.testing.assert_close(rough[name], exact[name], rtol=0.1, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
