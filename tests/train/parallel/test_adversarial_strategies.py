"""The adversarial phase under DDP and ZeRO, on one, two and three processes over gloo."""

import pytest

from tests.train.parallel.test_parallel import needs_deepspeed, ranks

pytestmark = pytest.mark.slow(area="zero")


@needs_deepspeed
def test_every_strategy_and_number_of_processes_trains_the_same(tmp_path):
    one = ranks(tmp_path / "one.json", 1, "ddp", script="adversarial_ranks")["ddp"]
    found = ranks(tmp_path / "two.json", 2, script="adversarial_ranks")
    assert len(found) == 4
    found["three processes"] = ranks(tmp_path / "three.json", 3, "ddp", script="adversarial_ranks")["ddp"]
    for name, facts in {"one process": one, **found}.items():
        # Adam divides small sums by small sums: rounding in one step grows.
        assert facts["norms"] == pytest.approx(one["norms"], rel=5e-3), name
        assert facts["discriminator norm"] == pytest.approx(one["discriminator norm"], rel=5e-3), name
        assert facts["begun by a resume"] == 0, f"{name}: the phase begins in a running attempt as in a new one"
        assert facts["resumed"] == 0, f"{name}: a resumed run equals one without interruption, bit for bit"
        assert facts["taken up by ddp"] < 2e-3, name
        for why in ("not finite", "of the model", "of the discriminator"):
            assert facts[f"skipped: {why}"], f"{name}: neither player moves"
