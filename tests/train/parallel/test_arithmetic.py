"""One process against two and three over gloo: the same gradient, statistics, metrics and decisions.

The processes run arithmetic.py; a batch of 7 makes their shares uneven. The order of sums depends on the number of
processes, and convolutions of 1 and of 2 items round differently. Sums over a batch therefore have a tolerance of 1e-5
of the largest value, a hundred times the rounding of float32. Values that must not change are compared bit for bit,
and so are the processes of one group.
"""

from pathlib import Path

import pytest
import torch
from arithmetic import AT_A_TIME, BATCH, CLIP, FAR, HELD_OUT, SILENT, WORLDS
from safetensors.torch import load_file
from torch import Tensor

from tests import preloaded
from tests.train.conftest import PATIENCE_S, environment
from train.evaluation.measuring.metrics import MEASURED
from train.training.held_out.extra import SCORES

FAMILIES = ("vae", "hvae", "vqvae")
GROUPS = [world for world in WORLDS if world > 1]
ROUNDING = 1e-5
# Adam divides by the square root of its second moment: where a gradient is almost zero, rounding decides.
LR_SHARE = 0.02
FIRST_RATE = 5e-4  # the learning rate of the first of two steps of warm-up: no weight moves further


class Results:
    """The results of all processes: `results(world, case)` returns those of rank 0, by name."""

    def __init__(self, folder: Path) -> None:
        self.all = {
            world: [load_file(folder / f"{world}-{rank}.safetensors") for rank in range(world)] for world in WORLDS
        }

    def __call__(self, world: int, case: str, rank: int = 0) -> dict[str, Tensor]:
        found = self.all[world][rank]
        return {name.partition(":")[2]: value for name, value in found.items() if name.startswith(f"{case}:")}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    folder = tmp_path_factory.mktemp("arithmetic")
    more = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    process = preloaded.start("tests.train.arithmetic", [str(folder)], environment(**more))
    said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    return Results(folder)


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    one, other = one.double(), other.double()
    assert one.isfinite().all()
    return ((one - other).abs().max() / one.abs().max().clamp_min(1e-12)).item()


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert one
    for name, value in one.items():
        assert distance(value, other[name]) <= ROUNDING, name


def only(values: dict[str, Tensor], *starts: str) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if name.startswith(starts)}


def gradient(state: dict[str, Tensor], beta: float = 0.9) -> dict[int, Tensor]:
    """The gradient of the first step, from the optimizer's first moment."""
    moments = {name: value for name, value in state.items() if name.endswith("/exp_avg")}
    return {int(name.split("/")[1]): value / (1 - beta) for name, value in moments.items()}


def norm_of(gradients: dict[int, Tensor]) -> float:
    return torch.stack([value.double().square().sum() for value in gradients.values()]).sum().sqrt().item()


def test_processes_of_a_group_are_the_same(results):
    """Bit for bit, except for measured times."""
    for world in GROUPS:
        first = results.all[world][0]
        for other in results.all[world][1:]:
            assert first.keys() == other.keys()
            different = [name for name in first if not torch.equal(first[name].nan_to_num(), other[name].nan_to_num())]
            assert not [name for name in different if ":plain/" not in name]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_accumulated_gradients_are_those_of_the_whole_batch(results, family, world):
    """Micro-batches of 2 in uneven shares against one backward pass over all 7."""
    state = results(world, f"{family}.step")
    found = gradient(state)
    plain = {index: state[f"plain/{index}"] for index in found}
    assert len(found) == len([name for name in state if name.startswith("plain/")]) - 1
    largest = max(value.abs().max() for value in plain.values())
    for index, value in plain.items():
        assert (value - found[index]).abs().max() <= ROUNDING * largest, index
    assert state["norm"].item() == pytest.approx(norm_of(plain), rel=ROUNDING)


@pytest.mark.parametrize("world", GROUPS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_the_same_on_any_number_of_processes(results, family, world):
    one = only(results(1, f"{family}.step"), "weight/")
    many = only(results(world, f"{family}.step"), "weight/")
    assert one.keys() == many.keys()
    for name, value in one.items():
        difference = (value.double() - many[name].double()).abs().max()
        assert difference <= LR_SHARE * FIRST_RATE + ROUNDING * value.double().abs().max(), name


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_metrics_are_weighted_by_samples(results, family, world):
    """With loud and faint items in uneven shares, means over items differ from means over processes or passes."""
    many = results(world, f"{family}.step")
    assert many["metric/loss/total"].item() == pytest.approx(many["plain/loss"].item(), rel=ROUNDING)
    assert_close(only(results(1, f"{family}.step"), "metric/"), only(many, "metric/"))


@pytest.mark.parametrize("world", WORLDS)
def test_gradients_are_clipped_by_the_norm_of_the_whole(results, world):
    free, clipped = results(world, "vae.step"), results(world, "vae.clipped")
    norm = free["norm"].item()
    assert norm > 10 * CLIP
    assert clipped["norm"].item() == pytest.approx(norm, rel=ROUNDING)
    assert norm_of(gradient(clipped)) == pytest.approx(CLIP, rel=1e-4)  # torch adds 1e-6 to the norm it divides by
    for index, value in gradient(free).items():
        assert distance(gradient(clipped)[index], value * (CLIP / norm)) <= 1e-4, index
    assert clipped["norm"].item() == pytest.approx(results(1, "vae.clipped")["norm"].item(), rel=ROUNDING)


@pytest.mark.parametrize("case", ["skipped", "exploded"])
@pytest.mark.parametrize("world", WORLDS)
def test_a_step_that_is_not_finite_or_explodes_is_skipped_by_all_alike(results, world, case):
    """NaN in one row of one process, or a large gradient: weights, moments and codebooks keep every bit."""
    for rank in range(world):
        found = results(world, case, rank)
        assert found["skipped/norm"].isfinite() == found["skipped/exploded"] == (case == "exploded")
        before = {name.partition("/")[2]: value for name, value in only(found, "before/").items()}
        after = {name.partition("/")[2]: value for name, value in only(found, "after/").items()}
        assert before.keys() == after.keys()
        assert {"weight/quantizer.codes", "weight/quantizer.counts", "weight/quantizer.variance"} <= before.keys()
        assert any(name.startswith("optimizer/") for name in before)
        for name, value in before.items():
            assert torch.equal(value, after[name]), (rank, name)
        # It counts as a step, and the model learns from the next batch.
        assert found["steps"] == 4
        assert found["consumed"] == 4 * BATCH
        assert not torch.equal(found["end/weight/quantizer.counts"], found["after/weight/quantizer.counts"])
    end = only(results(world, case), "end/weight/quantizer.")
    assert_close(only(results(1, case), "end/weight/quantizer."), end)
    assert_close(only(results(1, case), "norms"), only(results(world, case), "norms"))


@pytest.mark.parametrize("world", GROUPS)
def test_estimates_of_batch_norm_are_those_of_the_whole_batch(results, world):
    """After two steps; the second normalises by the estimates of the first."""
    one = results(1, "norms")
    assert one["updates"] == 2
    for name, value in one.items():
        # Adam has updated the weights of the second step: see LR_SHARE.
        assert distance(value, results(world, "norms")[name]) <= 100 * ROUNDING, name


@pytest.mark.parametrize("world", GROUPS)
@pytest.mark.parametrize("when", ["moments", "kmeans", "averages", "restart"])
def test_codebooks_are_those_of_the_whole_batch(results, when, world):
    """Counts, totals, codes and the variance S after initialization by k-means, moving averages and restarts."""
    one, many = only(results(1, "codebooks"), f"{when}/"), only(results(world, "codebooks"), f"{when}/")
    assert one[f"{when}/started"] == (when != "moments")
    one.pop(f"{when}/started"), many.pop(f"{when}/started")
    names = {"codes", "counts", "totals", "usage", "mean", "variance", "reference", "restarts", "updates"}
    assert one.keys() == {f"{when}/{name}" for name in names}
    assert_close(one, many)
    if when == "moments":
        assert one["moments/variance"] != 1
    if when == "restart":
        assert one["restart/codes"][:, 0].abs().max() < FAR / 100, "the dead code was not restarted"
    if when == "averages":
        frames = one["averages/counts"].sum(1)
        assert frames.min() > 0
        assert torch.allclose(frames, frames[0].expand_as(frames), rtol=0.1)


@pytest.mark.parametrize("world", WORLDS)
def test_held_out_measures_count_each_chunk_once(results, world):
    assert all(HELD_OUT % by for by in (*GROUPS, AT_A_TIME))
    found = results(world, "heldout")
    for name in MEASURED:
        assert found[f"held/{name}"].item() == pytest.approx(found[f"plain/{name}"].item(), rel=ROUNDING), name
    assert found["held/silent"].item() == pytest.approx(len(SILENT) / HELD_OUT)
    for name in (*MEASURED, *SCORES, "frechet"):
        assert found[f"extra/{name}"].item() == pytest.approx(found[f"plain/{name}"].item(), rel=ROUNDING), name


@pytest.mark.parametrize("world", WORLDS)
def test_the_largest_value_is_known_to_all(results, world):
    assert [results(world, "largest", rank)["last rank"].item() for rank in range(world)] == [world - 1] * world
