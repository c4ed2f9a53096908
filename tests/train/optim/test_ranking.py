"""The ranking of checkpoints by a held-out measure, and the end of a run without progress."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.optim.ranking import HIGHER_IS_BETTER, MEASURES, Patience, Until, better, held_out

# Values that occur again, and evaluations without one.
courses = st.lists(st.none() | st.sampled_from([-1.0, 0.0, 0.5, 2.0]), max_size=14)


def test_the_setting_is_a_measure_and_a_number_of_steps():
    assert Until.parse("") is None
    assert Until.parse("mel:200") == Until("mel", 200)


@pytest.mark.parametrize(
    "text",
    ["mel", "200", "mel:", "mel:0", "mel:-5", "mel:1.5", "mel:1e3", "colour:200", ":200", "mel:²", "mel:" + "9" * 99],
)
def test_other_texts_are_refused_in_one_line(text):
    with pytest.raises(
        ValueError, match=r"until is .*: write MEASURE:STEPS .* such as mel:20000; measures are"
    ) as told:
        Until.parse(text)
    assert "\n" not in str(told.value)


@given(st.sampled_from(MEASURES), courses, st.integers(1, 40), st.integers(0, 14), st.integers(0, 14))
def test_a_run_ends_so_many_steps_after_its_best_value_of_the_phase(measure, course, steps, start, at):
    """Against a search over the whole history; the state of a checkpoint at any evaluation changes nothing."""
    until, patience = Until(measure, steps), Patience()
    for n, value in enumerate(course):
        if n == at:
            patience = Patience.from_state(json.loads(json.dumps(patience.to_state())) if patience.measure else None)
        patience.note(measure, 10 * n, value, n >= start)
        seen = [(m, v) for m, v in enumerate(course[: n + 1]) if v is not None and (m >= start) == (n >= start)]
        if not seen:
            assert not patience.over(until)
            continue
        best = (max if measure in HIGHER_IS_BETTER else min)(v for _, v in seen)
        first = next(m for m, v in seen if v == best)
        assert (patience.best, patience.step) == (best, 10 * first)
        assert patience.over(until) == (10 * (n - first) >= steps)
        assert not patience.over(Until("cosine" if measure != "cosine" else "mel", steps))
        assert not patience.over(None)


def test_another_measure_begins_anew():
    patience = Patience()
    patience.note("mel", 10, 1.0, False)
    patience.note("si_sdr", 20, 1.0, False)
    assert (patience.measure, patience.step) == ("si_sdr", 20)


@pytest.mark.parametrize(
    "wrong", [None, [], {}, {"measure": "colour", "best": 1.0, "step": 1, "newest": 2}, {"measure": "mel", "best": "x"}]
)
def test_a_state_without_a_valid_entry_knows_nothing(wrong):
    assert Patience.from_state(wrong).measure == ""


def test_values_of_old_and_new_states():
    assert held_out({"valid_si_sdr": 3.0}) == {"si_sdr": 3.0}
    assert held_out({"valid": {"mel": 0.5, "si_sdr": 4, "x": 1.0}, "valid_si_sdr": 3.0}) == {"mel": 0.5, "si_sdr": 4.0}
    assert held_out({"valid": {"mel": float("nan"), "stft": "1", "mse": True}}) == {}
    assert held_out({}) == {}
    assert not better("mel", float("nan"), 1.0)
