"""Properties of ramps and learning rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.config import OptimConfig
from train.optim.schedules import Ramp, learning_rate

SHAPES = ("linear", "cosine", "log", "cyclical")
ramps = st.builds(
    Ramp,
    start=st.integers(0, 1000),
    steps=st.integers(0, 1000),
    shape=st.sampled_from(SHAPES),
    cycles=st.integers(1, 9),
    rising=st.floats(0.05, 1),
)
SCHEDULES = st.sampled_from(["cosine", "constant"])


@given(ramps, st.integers(0, 3000))
def test_a_ramp_starts_at_0_and_ends_at_1(ramp, step):
    assert 0 <= ramp.at(step) <= 1
    if ramp.steps:
        assert ramp.at(ramp.start) == 0
    assert ramp.at(ramp.start + ramp.steps) == ramp.at(ramp.start + ramp.steps + step) == 1


@given(ramps, st.integers(0, 3000))
def test_a_ramp_never_falls_within_a_cycle(ramp, step):
    now, then = ramp.at(step), ramp.at(step + 1)
    if ramp.shape != "cyclical":
        assert now <= then
    elif ramp.start < step + 1 < ramp.start + ramp.steps:
        cycle = [(s - ramp.start) * ramp.cycles // ramp.steps for s in (max(step, ramp.start), step + 1)]
        assert now <= then or cycle[0] < cycle[1]


@given(st.integers(1, 9), st.integers(1, 200), st.floats(0.1, 1))
def test_a_cyclical_ramp_rises_as_often_as_it_should(cycles, length, rising):
    ramp = Ramp(7, cycles * length, "cyclical", cycles, rising)
    values = [ramp.at(7 + s) for s in range(cycles * length)]
    assert values[:length] * cycles == values
    for s, value in enumerate(values[:length]):
        assert value == pytest.approx(min(1.0, s / length / rising))


def test_the_shapes_at_a_quarter():
    found = {shape: Ramp(0, 100, shape, cycles=2).at(25) for shape in SHAPES}
    assert found == pytest.approx({"linear": 0.25, "cosine": 0.1464, "log": 0.5119, "cyclical": 1.0}, abs=1e-3)


@pytest.mark.parametrize("rising", [0.0, -1.0, 1.1])
def test_a_cycle_must_rise(rising):
    with pytest.raises(ValueError, match="rising"):
        Ramp(rising=rising)


@given(
    st.integers(0, 20000),
    st.integers(0, 500),
    st.integers(501, 10000),
    st.floats(0, 1),
    SCHEDULES,
    st.floats(0, 1),
)
def test_the_learning_rate_stays_between_its_bounds(step, warmup, total, final, schedule, decay):
    def rate(at: int) -> float:
        return learning_rate(at, 1e-3, warmup, total, final, schedule, decay)

    assert 0 <= rate(step) <= 1e-3 * (1 + 1e-9)
    if step >= warmup:
        assert rate(step) >= final * 1e-3 - 1e-12
        assert rate(step + 1) <= rate(step)
    else:
        assert rate(step) == pytest.approx(1e-3 * (step + 1) / warmup)
    assert rate(warmup) == pytest.approx(1e-3)
    assert rate(total + 1) == pytest.approx(final * 1e-3, abs=1e-12)


@given(
    st.integers(0, 3000),
    st.integers(1, 1500),
    st.integers(0, 100),
    SCHEDULES,
    st.sampled_from(["hold_from", "cycle_from"]),
)
def test_a_run_made_longer(step, start, warmup, schedule, how):
    """Before the extension, the rate is that of a run that ended there; then it holds, or a new cycle begins."""
    common = {"lr": 1e-3, "warmup_steps": warmup, "schedule": schedule, "final_lr": 0.1}
    longer = OptimConfig(steps=3000, **{how: start}, **common)
    first, second = OptimConfig(steps=start, **common), OptimConfig(steps=3000 - start, **common)
    if step < start:
        assert longer.rate_at(step) == first.rate_at(step)
    elif how == "hold_from":
        assert longer.rate_at(step) == pytest.approx(1e-4)
    else:
        assert longer.rate_at(step) == max(1e-4, second.rate_at(step - start))
        if warmup > 2:
            assert longer.rate_at(start) < 1e-3, "it begins with a warm-up"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"hold_from": 5, "cycle_from": 5}, "exclude each other"),
        ({"hold_from": 10}, "raise optim.steps"),
        ({"cycle_from": 11}, "raise optim.steps"),
        ({"hold_from": 5, "final_lr": 0.0}, "use optim.cycle_from"),
    ],
)
def test_extensions_that_make_no_sense(settings, problem):
    with pytest.raises(ValueError, match=problem):
        OptimConfig(steps=10, **settings)


@given(st.integers(0, 2000), st.integers(0, 100), st.floats(0, 1))
def test_a_constant_rate_is_constant_until_its_decay(step, warmup, decay):
    first = max(warmup, 2000 - round(decay * 2000))
    rate = learning_rate(step, 1.0, warmup, 2000, 0.0, "constant", decay)
    if warmup <= step <= first:
        assert rate == 1.0
    if step > first:
        assert rate == pytest.approx((2000 - step) / (2000 - first))
