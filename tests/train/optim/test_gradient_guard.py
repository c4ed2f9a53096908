"""Which steps are skipped for their gradient's norm."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.optim.gradient_guard import GRACE, GradientGuard

CPU = torch.device("cpu")


def watching(norms: list[float], factor: float = 10.0) -> tuple[GradientGuard, list[bool]]:
    explosions = GradientGuard(factor, CPU)
    return explosions, [bool(explosions.rejects(torch.tensor(norm))) for norm in norms]


@given(st.lists(st.floats(0.5, 2.0), min_size=GRACE, max_size=120), st.floats(21, 1e30))
def test_a_norm_far_above_the_others_is_refused_once(norms, spike):
    explosions, refused = watching([*norms, spike])
    assert refused == [False] * len(norms) + [True]
    assert explosions.exploded
    assert not explosions.rejects(torch.tensor(norms[-1]))
    assert not explosions.exploded


@given(st.lists(st.floats(0, math.inf, width=32), max_size=80))
def test_factor_0_refuses_what_is_not_finite_alone(norms):
    assert watching(norms, 0.0)[1] == [not math.isfinite(norm) for norm in norms]


def test_nothing_explodes_in_the_first_steps():
    assert not any(watching([10.0 ** (i % 5) for i in range(GRACE)])[1])


def test_what_is_not_finite_is_refused_and_forgotten():
    explosions, _ = watching([1.0] * 60)
    before = explosions.state.clone()
    for norm in (math.nan, math.inf):
        assert explosions.rejects(torch.tensor(norm))
        assert not explosions.exploded
        assert torch.equal(explosions.state, before)


@pytest.mark.parametrize("factor", [3.0, 10.0])
@pytest.mark.parametrize("level", [2.0, 4.0, 100.0, 1e6])
def test_a_run_whose_norm_changes_for_good_goes_on(factor, level):
    """However far the level moved, the typical norm follows; before `skip_limit` when it is by less than factor^3."""
    _, refused = watching([1.0] * 200 + [level] * 2000, factor)
    last = max((i - 199 for i, no in enumerate(refused) if no), default=0)
    assert last < 2000
    assert last == sum(refused), "in a row"
    if level < factor:
        assert not last
    elif level <= factor**2:
        assert last < 50


def test_its_state_is_the_same_after_json():
    one, _ = watching([0.1 + 0.37 * i % 1.7 for i in range(70)])
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
