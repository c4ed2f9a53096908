import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import buffers, noise

from audiovae.quantizing.codebook import costs, kmeans, settling_decay, squared_distances
from audiovae.quantizing.quantizer import QuantizerConfig
from audiovae.quantizing.residual_quantizer import ResidualQuantizer
from audiovae.results import Statistics

D = 6


def quantizer(latents: torch.Tensor | None = None, **changes) -> ResidualQuantizer:
    """In training mode; with latents its codebooks have started from them."""
    config = QuantizerConfig(**{"codebooks": 3, "size": 16, "start_step": 5, "decay": 0.5, **changes})
    made = ResidualQuantizer(config, latents.shape[1] if latents is not None else D)
    if latents is not None:
        made.update(made(latents, noise(len(latents))).statistics, config.start_step)
    return made


def clouds(items: int = 8, frames: int = 20, seed: int = 0) -> torch.Tensor:
    """Latents [items, D, frames] around a dozen centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(12, D, generator=generator)
    choice = torch.randint(12, (items, frames), generator=generator)
    return (centres[choice] + 0.2 * torch.randn(items, frames, D, generator=generator)).transpose(1, 2)


def by_hand(codes: list[float], counts: list[float], **changes) -> ResidualQuantizer:
    """One codebook of scalars, already started."""
    made = ResidualQuantizer(QuantizerConfig(codebooks=1, size=len(codes), decay=0.5, **changes), 1)
    made.codes[:] = torch.tensor(codes).view(1, -1, 1)
    made.counts[:] = torch.tensor(counts)
    made.totals[:] = made.codes * made.counts.unsqueeze(2)
    made.started.fill_(True)
    made.updates.fill_(1e6)  # settled
    made.quantizing = True
    return made


# Start


def test_codebooks_start_at_their_step_and_not_before():
    made, latents = quantizer(), clouds()
    for step in range(1, 5):
        out = made(latents, noise(8))
        assert torch.equal(out.values, latents)
        assert out.losses["commitment"].abs().max() == 0
        made.update(out.statistics, step)
        assert not made.quantizing
        assert not made.started
    made.update(made(latents, noise(8)).statistics, 5)
    assert made.quantizing
    assert made.started


def test_started_codebooks_are_used_and_each_adds_detail():
    latents = clouds()
    made = quantizer(latents).eval()
    codes = made(latents).codes
    assert codes.dtype == torch.int64
    for q in range(3):
        assert len(codes[:, q].unique()) > 12
    errors = [(latents - made.decode(codes[:, : q + 1])).square().mean().item() for q in range(3)]
    assert errors[0] < 0.5 * latents.square().mean()
    assert errors[0] > errors[1] > errors[2]


def test_kmeans_lowers_the_distortion_of_its_random_start():
    vectors = clouds().transpose(1, 2).reshape(-1, D)
    means, counts, totals = kmeans(vectors, 12, torch.Generator().manual_seed(0))
    picked = vectors[torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:12]]

    def distortion(codes):
        return (vectors - codes[squared_distances(vectors, codes).argmin(1)]).square().sum(1).mean()

    assert distortion(means) < 0.8 * distortion(picked)
    assert counts.sum() == len(vectors)
    torch.testing.assert_close(totals.sum(0), vectors.sum(0), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(means * counts.unsqueeze(1), totals, rtol=1e-4, atol=1e-3)


def test_kmeans_of_fewer_vectors_than_codes_gives_as_many_different_codes():
    means, _, _ = kmeans(torch.randn(5, D), 16, torch.Generator().manual_seed(0))
    assert means.shape == (16, D)
    assert means.isfinite().all()
    assert len(means.unique(dim=0)) == 16


# Moving averages


def test_the_moving_average_by_hand():
    made = by_hand([0.0, 10.0], [1.0, 1.0], restart_below=0.0)
    out = made(torch.tensor([[[1.0, 3.0, 9.0]]]), noise(1))
    assert out.codes.tolist() == [[[0, 0, 1]]]
    made.update(out.statistics, 1)
    # counts: (1 + 2) / 2 and (1 + 1) / 2; totals: (0 + 4) / 2 and (10 + 9) / 2
    torch.testing.assert_close(made.counts, torch.tensor([[1.5, 1.0]]))
    torch.testing.assert_close(made.totals, torch.tensor([[[2.0], [9.5]]]))
    torch.testing.assert_close(made.codes, torch.tensor([[[2.0 / 1.5], [9.5]]]), rtol=1e-4, atol=0)
    # mean: (0 + 13/3) / 2; variance: (1 + mean of squares - square of mean) / 2
    torch.testing.assert_close(made.mean, torch.tensor([13 / 6]))
    torch.testing.assert_close(made.variance, torch.tensor((1 + 91 / 3 - (13 / 3) ** 2) / 2))


def test_codes_come_to_rest_at_the_means_of_their_members():
    made = by_hand([0.0, 10.0], [1.0, 1.0])
    latents = torch.tensor([[[1.0, 3.0, 9.0]]])
    for step in range(40):
        made.update(made(latents, noise(1)).statistics, step)
    torch.testing.assert_close(made.codes.flatten(), torch.tensor([2.0, 9.0]), rtol=1e-3, atol=0)


def test_usage_follows_the_soft_assignment_and_stays_a_distribution():
    latents = clouds()
    made = quantizer(latents, codebooks=2)
    for step in range(6, 12):
        made.update(made(latents, noise(8)).statistics, step)
    torch.testing.assert_close(made.usage.sum(1), torch.ones(2))
    assert (made.usage - 1 / 16).abs().max() > 0.01


# Dead codes


def test_a_dead_code_is_restarted_and_then_chosen():
    latents = clouds()
    made = quantizer(latents)
    with torch.no_grad():
        made.codes[:, 4] = 1e3
        made.counts[:, 4] = 1e-3
        made.totals[:, 4] = 1.0
    assert not (made(latents, noise(8)).codes == 4).any()
    made.update(made(latents, noise(8, step=6)).statistics, 6)
    fresh = made.counts[:, 4]
    assert (fresh > 1).all()
    assert made(latents, noise(8, step=7)).metrics["restarts"] >= 1
    torch.testing.assert_close(made.totals[:, 4], made.codes[:, 4] * fresh.unsqueeze(1))
    assert made.codes[:, 4].abs().max() < 10
    out = made(latents, noise(8, step=7))
    for q in range(3):
        assert (out.codes[:, q] == 4).any(), f"codebook {q}"
    # Nor does the next moving average pull it back to where it was.
    made.update(out.statistics, 7)
    assert made.codes[:, 4].abs().max() < 10
    assert (made(latents, noise(8, step=8)).codes[:, 0] == 4).any()


def test_codes_in_use_are_not_restarted():
    latents = clouds()
    made, still = quantizer(latents, restart_below=0.0), quantizer(latents, restart_below=1e-6)
    for step in (6, 7):
        for one in (made, still):
            one.update(one(latents, noise(8, step)).statistics, step)
    assert torch.equal(made.codes, still.codes)


def test_more_dead_codes_than_offers_wait_their_turn():
    latents = clouds(items=1)  # offers 8 vectors
    made = quantizer(latents, codebooks=1, size=40)
    with torch.no_grad():
        made.codes[0, :30], made.totals[0, :30], made.counts[0, :30] = 1e3, 1.0, 1e-3
    made.update(made(latents, noise(1, step=6)).statistics, 6)
    assert (made.counts[0, :30] > 0.1).sum() == 8
    assert made.codes.isfinite().all()


# Gradients and losses


def test_the_gradient_passes_straight_through():
    latents = clouds().requires_grad_()
    made = quantizer(latents.detach())
    weight = torch.randn_like(latents)
    out = made(latents, noise(8))
    (out.values * weight).sum().backward()
    assert torch.equal(latents.grad, weight)
    assert not torch.equal(out.values.detach(), latents.detach())


@pytest.mark.parametrize("training", [False, True])
def test_decoded_codes_are_the_quantised_values(training):
    latents = clouds()
    made = quantizer(latents).train(training)
    out = made(latents, noise(8))
    torch.testing.assert_close(made.decode(out.codes), out.values, rtol=1e-5, atol=1e-5)
    # Each code is the nearest to what the codebooks before it left over.
    residual = latents.transpose(1, 2)
    for q in range(3):
        assert torch.equal(torch.cdist(residual, made.codes[q]).argmin(2), out.codes[:, q])
        residual = residual - made.codes[q][out.codes[:, q]]


@pytest.mark.parametrize("reference", [1.0, 16.0])
def test_commitment_is_the_distance_to_the_codes_over_the_variance(reference):
    made = by_hand([0.0, 10.0], [1.0, 1.0])
    made.reference.fill_(reference)
    made.variance.fill_(4.0)
    latents = torch.tensor([[[1.0, 3.0, 9.0]], [[0.0, 10.0, 0.0]]], requires_grad=True)
    out = made(latents, noise(2))
    torch.testing.assert_close(out.losses["commitment"], torch.tensor([11 / 3 / 4, 0.0]), rtol=1e-4, atol=1e-6)
    out.losses["commitment"].sum().backward()
    # Towards the code: 2 (z - e) / (3 S).
    torch.testing.assert_close(latents.grad[0, 0], torch.tensor([2.0, 6.0, -2.0]) / 12, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [0.01, 0.7, 50.0])
def test_commitment_does_not_depend_on_the_scale_of_latents_and_codes(scale):
    latents = 2 * clouds()
    made = quantizer(latents)
    scaled = copy.deepcopy(made)
    for buffer in (scaled.codes, scaled.totals):
        buffer.mul_(scale)
    before = made(latents, noise(8)).losses["commitment"]
    at_once = scaled(scale * latents, noise(8)).losses["commitment"]
    torch.testing.assert_close(at_once, scale**2 * before, rtol=1e-3, atol=0)
    for _ in range(60):
        scaled._update_moments(scaled(scale * latents, noise(8)).statistics.sums, 0.5)
    found = scaled(scale * latents, noise(8)).losses["commitment"]
    # Where latents collapse, S counts as a tenth of what it was.
    expected = before * min(1.0, scale**2 * made.config.largest_beta)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_nothing_depends_on_the_scale_at_which_the_codebooks_start(scale):
    plain, scaled = quantizer(clouds()), quantizer(scale * clouds())
    for step in range(6, 12):
        one = plain(clouds(seed=step), noise(8, step))
        other = scaled(scale * clouds(seed=step), noise(8, step))
        assert torch.equal(one.codes, other.codes)
        for name in one.losses:
            torch.testing.assert_close(one.losses[name], other.losses[name], rtol=1e-3, atol=1e-5)
        for name in ("perplexity", "effective_beta"):
            torch.testing.assert_close(one.metrics[name], other.metrics[name], rtol=1e-3, atol=1e-5)
        plain.update(one.statistics, step)
        scaled.update(other.statistics, step)


def test_effective_beta_is_bounded_when_the_variance_collapses():
    made = quantizer(clouds(), largest_beta=10.0)
    for variance, beta in ((0.0, 10.0), (1e-4, 10.0), (0.5, 2.0), (4.0, 0.25), (1e6, 1e-6)):
        for reference in (1.0, 0.01):
            made.reference.fill_(reference)
            made.variance.fill_(variance * reference)
            assert made.effective_beta().item() == pytest.approx(beta, rel=1e-3)
    made.variance.zero_()
    out = made(1e-4 * clouds(), noise(8))
    assert all(loss.isfinite().all() for loss in out.losses.values())


def test_there_is_no_anchor_before_the_codebooks():
    made = quantizer()
    for step in range(1, 4):
        out = made(7 * clouds(), noise(8))
        assert out.losses["anchor"].abs().max() == 0
        made.update(out.statistics, step)
        assert made.effective_beta().item() == 1
    assert made.variance.item() == pytest.approx((7 * clouds()).var((0, 2), unbiased=False).mean().item(), rel=1e-3)


@pytest.mark.parametrize("reference", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("change", [0.05, 20.0])
def test_the_anchor_alone_brings_the_variance_back(reference, change):
    latents = clouds()
    latents = reference**0.5 * (latents - latents.mean((0, 2), keepdim=True)) / latents.std()
    made = quantizer(latents)
    assert made.reference.item() == pytest.approx(reference, rel=0.05)
    log_gain = (0.5 * torch.tensor(change).log()).requires_grad_()
    optimizer = torch.optim.Adam([log_gain], lr=0.03)
    for step in range(200):
        out = made(log_gain.exp() * latents, noise(8))
        out.losses["anchor"].mean().backward()
        if step == 8:
            assert torch.sign(log_gain.grad) == (1 if change > 1 else -1)
        optimizer.step()
        optimizer.zero_grad()
        made.update(out.statistics, 0)
    assert made.variance.item() == pytest.approx(reference, rel=0.15)


def test_diversity_pushes_towards_codes_used_less():
    made = by_hand([-1.0, 1.0], [1.0, 1.0], softness=1.0)
    made.usage[:] = torch.tensor([[0.9, 0.1]])
    latents = torch.zeros(1, 1, 4, requires_grad=True)
    loss = made(latents, noise(1)).losses["diversity"]
    loss.sum().backward()
    assert (latents.grad < 0).all()  # a step downhill goes towards the code at +1
    made.usage[:] = 0.5
    assert made(latents, noise(1)).losses["diversity"].abs().max() < 1e-6


# State


def test_updates_are_deterministic_whatever_the_global_generator():
    latents = clouds()
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made = quantizer(latents, restart_below=0.8)
        for step in range(6, 10):
            torch.rand(seed)
            made.update(made(latents, noise(8, step)).statistics, step)
        results.append(buffers(made))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["counts", "totals", "usage", "sum", "square"])
def test_sums_that_are_not_finite_leave_all_as_it_was(name, bad):
    latents = clouds()
    made = quantizer(latents, restart_below=0.8)  # with dead codes to tempt a restart
    statistics = made(latents, noise(8)).statistics
    before = buffers(made)
    statistics.sums[name].view(-1)[0] = bad
    statistics.items["offers"][:] = bad
    made.update(statistics, 6)
    for key, value in buffers(made).items():
        assert torch.equal(value, before[key]), key


def test_codebooks_do_not_start_from_vectors_that_are_not_finite():
    made, latents = quantizer(), clouds()
    before = buffers(made)
    broken = latents.clone()
    broken[3, 2, 5] = torch.nan
    made.update(made(broken, noise(8)).statistics, 5)
    assert not made.quantizing
    assert all(torch.equal(value, before[key]) for key, value in buffers(made).items())
    made.update(made(latents, noise(8)).statistics, 6)
    assert made.quantizing
    assert all(buffer.isfinite().all() for buffer in made.buffers())


def test_a_state_dict_carries_whether_the_codebooks_have_started():
    latents = clouds()
    started, blank = quantizer(latents), quantizer()
    empty = {name: value.clone() for name, value in blank.state_dict().items()}
    blank.load_state_dict(started.state_dict())
    assert blank.quantizing
    assert torch.equal(blank(latents, noise(8)).codes, started(latents, noise(8)).codes)
    blank.load_state_dict(empty)
    assert not blank.quantizing
    assert torch.equal(blank(latents, noise(8)).values, latents)


def test_evaluation_gathers_nothing_and_changes_nothing():
    latents = clouds()
    made = quantizer(latents).eval()
    before = buffers(made)
    assert made(latents).statistics == Statistics()
    assert all(torch.equal(value, before[key]) for key, value in buffers(made).items())


def test_perplexity_and_dead_codes_are_counted():
    made = by_hand([0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 0.0, 0.0])
    metrics = made(torch.zeros(1, 1, 3), noise(1)).metrics
    assert metrics["perplexity"].item() == pytest.approx(2.0, rel=1e-3)
    assert metrics["dead_codes"].item() == 2


@pytest.mark.parametrize("codebooks", [0, 9])
def test_the_number_of_codebooks_is_bounded(codebooks):
    with pytest.raises(ValueError, match=f"codebooks is {codebooks}"):
        QuantizerConfig(codebooks=codebooks)


def test_models_saved_before_restarts_were_counted_still_load():
    state = quantizer(clouds()).state_dict()
    del state["restarts"]
    quantizer().load_state_dict(state)
    assert quantizer().state_dict().keys() - state.keys() == {"restarts"}


# Options

OPTIONS = [
    {"commitment": "fixed"},
    {"commitment": "none"},
    {"dimension": 3},
    {"l2": True},
    {"dropout": 0.6},
    {"gradient": "rotation"},
    {"dimension": 4, "l2": True, "dropout": 0.6, "gradient": "rotation"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_with_every_option_decoding_gives_the_values_and_all_stays_finite(options):
    latents = clouds().requires_grad_()
    made = quantizer(latents.detach(), restart_below=0.5, **options)
    for step in range(6, 12):
        out = made(latents, noise(8, step))
        (out.values.square().mean() + sum(loss.mean() for loss in out.losses.values())).backward()
        made.update(out.statistics, step)
    assert latents.grad.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in made.buffers())
    made.eval()
    out = made(latents)
    assert torch.equal(made.decode(out.codes), out.values)
    silent = made(torch.zeros_like(latents, requires_grad=True))
    assert all(loss.isfinite().all() for loss in silent.losses.values())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_with_every_option_parts_of_a_batch_add_up(options):
    latents = clouds()
    made = quantizer(latents, **options)
    whole = made(latents, noise(8, 6)).statistics
    parts = [made(latents[rows], noise(8, 6, rows)).statistics for rows in ([0, 1, 2], [3, 4, 5, 6, 7])]
    for name, value in whole.sums.items():
        torch.testing.assert_close(parts[0].sums[name] + parts[1].sums[name], value, rtol=1e-4, atol=1e-4)
    for name, value in whole.items.items():
        torch.testing.assert_close(torch.cat([part.items[name] for part in parts]), value, rtol=1e-4, atol=1e-5)


def test_fixed_commitment_is_the_plain_distance_without_an_anchor():
    made = by_hand([0.0, 10.0], [1.0, 1.0], commitment="fixed")
    made.variance.fill_(4.0)
    out = made(torch.tensor([[[1.0, 3.0, 9.0]]]), noise(1))
    assert out.losses["commitment"].item() == pytest.approx(11 / 3)
    assert out.losses["anchor"].item() == 0
    assert out.metrics["effective_beta"].item() == 1


def test_directions_choose_by_cosine_whatever_the_loudness():
    latents = clouds()
    made = quantizer(latents, l2=True)
    made.update(made(latents, noise(8, 6)).statistics, 6)
    torch.testing.assert_close(made.codes[0].norm(dim=1), torch.full((16,), D**0.5))
    loudness = torch.rand(8, 1, 20) * 100 + 0.01
    made.eval()
    assert torch.equal(made(latents).codes[:, 0], made(loudness * latents).codes[:, 0])
    cosine = torch.einsum("bdt,kd->btk", latents, made.codes[0])
    assert torch.equal(cosine.argmax(2), made(latents).codes[:, 0])


def test_dropout_leaves_the_later_codebooks_out_of_everything():
    latents = clouds(items=64)
    made = quantizer(latents, dropout=0.9)
    out = made(latents, noise(64, 6))
    in_use = out.statistics.items["in_use"]
    assert set(in_use.tolist()) == {1.0, 2.0, 3.0}
    for i in range(64):
        n = int(in_use[i])
        torch.testing.assert_close(made.decode(out.codes[i : i + 1, :n])[0], out.values[i], rtol=1e-5, atol=1e-5)
    users = torch.stack([(in_use > q).sum() for q in range(3)])
    torch.testing.assert_close(out.statistics.sums["items"], users.float())
    torch.testing.assert_close(out.statistics.sums["counts"].sum(1), 20.0 * users)
    assert torch.equal(made.eval()(latents).values, made.decode(made(latents).codes))


def test_items_offer_only_to_codebooks_that_they_use():
    made = quantizer(clouds(), codebooks=2, restart_below=0.5)
    made.counts[:, :4] = 0
    before = made.codes.clone()
    made._restart(torch.full((3, 2, 2, D), 7.0), torch.ones(3), torch.Generator().manual_seed(0))
    assert (made.codes[0, :4] == 7).all()
    assert torch.equal(made.codes[1], before[1])
    assert made.restarts > 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"commitment": "some"}, "commitment is 'some'"),
        ({"gradient": "none"}, "gradient is 'none'"),
        ({"dimension": -1}, "dimension is -1"),
        ({"balance": -0.1}, "balance is -0.1"),
        ({"dropout": 1.5}, "dropout is 1.5"),
        ({"dropout": 0.5, "codebooks": 1}, "there is only one"),
    ],
)
def test_settings_that_cannot_be_are_told(change, told):
    with pytest.raises(ValueError, match=told):
        QuantizerConfig(**change)


# Balance: codes that are used often are dearer


def test_a_busy_code_is_chosen_for_what_is_much_nearer_to_it_only():
    codes, counts = torch.tensor([[0.0], [1.0]]), torch.tensor([16.0, 1.0])
    vectors = torch.tensor([[0.1], [0.3], [0.6]])
    distances = squared_distances(vectors, codes)
    assert costs(distances, vectors, counts, 0.0).argmin(1).tolist() == [0, 0, 1]
    assert costs(distances, vectors, counts, 1.0).argmin(1).tolist() == [0, 1, 1]  # 4 times nearer is not enough
    even = costs(distances, vectors, torch.full((2,), 7.0), 1.0).argmin(1)
    assert even.tolist() == [0, 0, 1]
    assert costs(1e-6 * distances, 1e-3 * vectors, counts, 1.0).argmin(1).tolist() == [0, 1, 1]
    assert costs(distances, vectors, torch.zeros(2), 1.0).argmin(1).tolist() == [0, 0, 1]


def quiet_speech(seed: int, items: int = 32) -> torch.Tensor:
    """Latents [items, D, 40] of which nine in ten are close to zero, as pauses are."""
    generator = torch.Generator().manual_seed(seed)
    loud = torch.rand(items, 1, 40, generator=generator) < 0.1
    return torch.where(loud, 1.0, 0.05) * torch.randn(items, D, 40, generator=generator)


def used(balance: float) -> tuple[float, float]:
    """Perplexity over latents that were not trained on, and the distortion of those."""
    made = quantizer(quiet_speech(0), codebooks=1, size=64, decay=0.9, balance=balance)
    for step in range(6, 80):
        made.update(made(quiet_speech(step), noise(32, step)).statistics, step)
    made.eval()
    fresh = quiet_speech(1000)
    codes = made(fresh).codes
    share = torch.bincount(codes.flatten(), minlength=64) / codes.numel()
    return torch.exp(-(share * share.clamp_min(1e-10).log()).sum()).item(), (
        (made.decode(codes) - fresh).square().mean().item()
    )


def test_balance_spreads_the_use_of_codes_and_costs_some_distortion():
    plain, balanced = used(0.0), used(0.5)
    assert balanced[0] > 1.05 * plain[0]
    assert balanced[1] < 1.1 * plain[1]


def test_blending_chooses_as_encoding_does():
    made = quantizer(quiet_speech(0), codebooks=2, size=64, balance=0.5).eval()
    latents = made.decode(made(quiet_speech(1)).codes)  # points that codes reach
    codes = made(latents).codes
    assert torch.equal(made.blend(codes, codes, 0.5), made(made.decode(codes)).codes)


@given(n=st.integers(0, 5000), decay=st.floats(0.5, 0.9999))
def test_averages_begin_short_and_settle(n, decay):
    now, later = (settling_decay(torch.tensor(float(k)), decay).item() for k in (n, n + 1))
    assert 0 < now <= later <= decay + 1e-6
    assert settling_decay(torch.tensor(1e6), decay).item() == pytest.approx(decay)


def test_codes_move_with_their_vectors_right_after_the_start():
    latents = clouds()
    left = {}
    for updates in (0.0, 1e6):
        made = quantizer(latents, codebooks=1, decay=0.99)
        assert made.updates == 0
        made.updates.fill_(updates)
        for step in range(6, 16):
            made.update(made(latents + 1.0, noise(8)).statistics, step)
        assert made.updates == updates + 10
        left[updates] = (latents + 1.0 - made(latents + 1.0).values).square().mean().item()
    assert left[0.0] < 0.5 * left[1e6]


def test_older_codebooks_are_settled():
    made = quantizer(clouds())
    state = made.state_dict()
    del state["updates"]
    made.load_state_dict(state)
    assert settling_decay(made.updates, 0.99).item() == pytest.approx(0.99)
