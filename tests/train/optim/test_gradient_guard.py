"""Which steps the gradient guard skips."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.optim.gradient_guard import GRACE, GradientGuard

CPU = torch.device("cpu")


def observe(norms: list[float], factor: float = 10.0) -> tuple[GradientGuard, list[bool]]:
    guard = GradientGuard(factor, CPU)
    return guard, [bool(guard.rejects(torch.tensor(norm))) for norm in norms]


@given(st.lists(st.floats(0.5, 2.0), min_size=GRACE, max_size=120), st.floats(21, 1e30))
def test_a_norm_far_above_the_others_is_rejected_once(norms, spike):
    guard, rejected = observe([*norms, spike])
    assert rejected == [False] * len(norms) + [True]
    assert guard.exploded
    assert not guard.rejects(torch.tensor(norms[-1]))
    assert not guard.exploded


@given(st.lists(st.floats(0, math.inf, width=32), max_size=80))
def test_factor_0_rejects_only_norms_that_are_not_finite(norms):
    assert observe(norms, 0.0)[1] == [not math.isfinite(norm) for norm in norms]


def test_nothing_explodes_in_the_first_steps():
    assert not any(observe([10.0 ** (i % 5) for i in range(GRACE)])[1])


def test_norms_that_are_not_finite_are_rejected_and_not_counted():
    guard, _ = observe([1.0] * 60)
    before = guard.state.clone()
    for norm in (math.nan, math.inf):
        assert guard.rejects(torch.tensor(norm))
        assert not guard.exploded
        assert torch.equal(guard.state, before)


@pytest.mark.parametrize("factor", [3.0, 10.0])
@pytest.mark.parametrize("level", [2.0, 4.0, 100.0, 1e6])
def test_a_run_whose_norm_changes_permanently_continues(factor, level):
    """The typical norm follows any change; within `skip_limit` steps for changes up to factor^2."""
    _, rejected = observe([1.0] * 200 + [level] * 2000, factor)
    last = max((i - 199 for i, no in enumerate(rejected) if no), default=0)
    assert last < 2000
    assert last == sum(rejected), "in a row"
    if level < factor:
        assert not last
    elif level <= factor**2:
        assert last < 50


def test_its_state_is_the_same_after_json():
    one, _ = observe([0.1 + 0.37 * i % 1.7 for i in range(70)])
    two = GradientGuard(10.0, CPU)
    two.state = torch.tensor(json.loads(json.dumps(one.state.tolist())))
    for norm in (3.3, 7e9, 0.2):
        assert one.rejects(torch.tensor(norm)) == two.rejects(torch.tensor(norm))
        assert torch.equal(one.state, two.state)


def test_a_skipped_step_gives_models_no_statistics():
    from audiovae import Statistics
    from train.training.step import nan_where_skipped

    given = Statistics({"counts": torch.ones(3, dtype=torch.long)}, {})
    assert nan_where_skipped(given, torch.tensor(True)).sums["counts"].isnan().all()
    assert nan_where_skipped(given, torch.tensor(False)).sums["counts"].tolist() == [1, 1, 1]
