"""AdamW without torch's compiler is torch's AdamW."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.optim.adamw import AdamW

GROUPS = st.lists(st.tuples(st.floats(1e-6, 1.0), st.floats(0.0, 0.5), st.integers(1, 5)), min_size=1, max_size=3)
SKIPPED = st.lists(st.booleans(), min_size=1, max_size=6)


def parameters(sizes: list[int]) -> list[torch.nn.Parameter]:
    torch.manual_seed(1)
    return [torch.nn.Parameter(torch.randn(size, 3)) for size in sizes]


def trained(kind: type[torch.optim.AdamW], groups: list, skipped: list[bool]) -> tuple:
    """The weights and the state after some steps, of which the optimizer skips those that are marked."""
    weights = parameters([size for *_, size in groups])
    given_settings = [
        {"params": [weight], "lr": rate, "weight_decay": decay}
        for weight, (rate, decay, _) in zip(weights, groups, strict=True)
    ]
    optimizer = kind(given_settings, betas=(0.8, 0.95), fused=True)
    for step, skip in enumerate(skipped):
        for weight in weights:
            (weight * torch.arange(1.0, 4.0)).sin().sum().backward()
        optimizer.found_inf = torch.tensor(float(skip))
        optimizer.step()
        optimizer.zero_grad()
        assert all(weight.grad is None for weight in weights), step
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    return weights, state, optimizer.state_dict()


def assert_same(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


@settings(max_examples=20)
@given(GROUPS, SKIPPED)
def test_it_is_torchs_bit_for_bit(groups, skipped):
    assert_same(trained(AdamW, groups, skipped), trained(torch.optim.AdamW, groups, skipped))


def test_it_does_not_import_the_compiler(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    trained(AdamW, [(0.1, 0.1, 2)], [False])
    with pytest.raises(ImportError):
        trained(torch.optim.AdamW, [(0.1, 0.1, 2)], [False])
