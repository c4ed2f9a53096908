"""Where the phase begins, and its weights from step to step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.adversarial.settings import AdversarialConfig


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50))
def test_weights_follow_lead_and_ramp(steps, lead, ramp):
    config = AdversarialConfig(start=1, weight=0.4, feature_weight=2.0, lead=lead, ramp=ramp)
    rows = [config.weights_at(done) for done in range(lead + ramp + steps)]
    assert all(row == {} for row in rows[:lead])
    assert all(row["features"] == 2.0 for row in rows[lead:])
    rising = [row["adversarial"] for row in rows[lead:]]
    assert rising == sorted(rising)
    assert rising[0] == (0.0 if ramp else 0.4)
    assert rising[-1] <= 0.4
    assert all(value == 0.4 for value in rising[ramp:])


@pytest.mark.parametrize(
    ("start", "steps", "expected"),
    [(0, 100, None), (0.5, 100, 50), (0.5, 101, 50), (1, 100, 1), (30, 100, 30), (0.001, 10, 1)],
)
def test_a_start_below_one_is_a_share(start, steps, expected):
    assert AdversarialConfig(start=start).start_step(steps) == expected


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"start": float("nan")}, "adversarial.start is nan"),
        ({"start": float("inf")}, "adversarial.start is inf"),
        ({"start": 2.5}, "a whole number of steps, or a share"),
        ({"windows": []}, "are empty"),
        ({"windows": [6]}, "multiples of 4"),
        ({"windows": [-4]}, "multiples of 4"),
        ({"periods": [1]}, "at least 2"),
        ({"periods": [3, 3]}, "adversarial.periods names one value twice"),
        ({"weight": 0.0, "feature_weight": 0.0}, "would have no effect"),
    ],
)
def test_what_cannot_be(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        AdversarialConfig(**settings)
