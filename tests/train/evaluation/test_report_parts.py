"""The parts of report pages, with property tests for all inputs."""

import io
import json
import math
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.text import JOINERS
from train.cli.parser import parse
from train.config import flat
from train.evaluation.drawing.charts import (
    BOTTOM,
    BUCKETS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Series,
    line_chart,
    short,
    thinned,
)
from train.evaluation.drawing.codes import Codebook, codebooks, use_by_rank
from train.evaluation.drawing.curves import READING, curves_of_run, curves_of_runs, pattern, phase_start, restarts
from train.evaluation.drawing.spectrograms import FINE, SMALL, band_levels, difference, spectrogram
from train.evaluation.measuring.metrics import MONO_MIX
from train.evaluation.measuring.picking import Picker, extremes
from train.evaluation.report.facts import training_commands
from train.evaluation.report.measures import columns, interval, interval_note, mean_use
from train.evaluation.report.rendering import figure, render
from train.evaluation.report.sounds import FLAC, VORBIS, sound_url
from train.evaluation.report.tables import extent, latent_table, recordings_table, table_rows
from train.evaluation.report.verdict import verdict
from train.runs.record import Record
from train.runs.run_folder import RunDir

ROOT = Path(__file__).parents[3]
RATE = 22050
NUMBERS = st.floats(-1e12, 1e12).filter(lambda x: not x or abs(x) > 1e-12)


def content_of(url: str) -> bytes:
    return b64decode(url.partition(",")[2])


@given(st.lists(st.tuples(st.integers(0, 10**7).map(float), NUMBERS), min_size=1, max_size=40), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_curve_lies_inside_its_picture(points, second):
    series = [Series("<a&b>", sorted(points))] + ([Series("other", [(0.0, math.nan), (5.0, 1.0)])] if second else [])
    chart = line_chart("<title>", series)
    assert "<a&b>" not in chart.svg
    assert "<title>" not in chart.svg
    for line in re.findall(r'polyline class="line s\d" points="([^"]*)"', chart.svg):
        for place in line.split():
            x, y = map(float, place.split(","))
            assert LEFT - 1 <= x <= WIDTH - RIGHT + 1
            assert TOP - 1 <= y <= HEIGHT - BOTTOM + 1


@given(st.lists(st.floats(), min_size=1, max_size=6))
@settings(deadline=None)
def test_any_numbers_can_be_drawn(values):
    """A diverged run logs infinite and missing values."""
    chart = line_chart("title", [Series("a", [(float(step), value) for step, value in enumerate(values)])])
    assert chart is None or not re.search("nan|inf", chart.svg)


@given(NUMBERS, NUMBERS)
@settings(deadline=None)
def test_ticks_are_few_and_inside(a, b):
    axis = Axis(min(a, b), max(a, b), 0, 100)
    assert len(axis.ticks) <= 8
    slack = (axis.high - axis.low) * 1e-6
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in axis.ticks)


def test_no_points_no_chart_and_peaks_stay():
    assert line_chart("empty", [Series("a", [(1.0, math.nan)])]) is None
    points = [(float(i), 0.0) for i in range(10_000)]
    points[4321] = (4321.0, 7.0)
    kept = thinned(points)
    assert (4321.0, 7.0) in kept
    assert len(kept) <= 2 * BUCKETS + 2
    assert kept == sorted(kept)


def test_sounds_in_a_page():
    audio = np.concatenate([np.random.default_rng(0).normal(0, 0.2, RATE), [np.nan, 2.0, -np.inf]]).astype(np.float32)
    exact, rate = soundfile.read(io.BytesIO(content_of(sound_url(audio, RATE))), dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(exact[:-3], audio[:-3].clip(-1, 1), atol=2**-14)
    assert exact[-3] == 0
    assert exact[-2] > 0.99
    small = content_of(sound_url(audio, RATE, VORBIS))
    assert soundfile.info(io.BytesIO(small)).frames == len(audio)
    assert len(small) < len(content_of(sound_url(audio, RATE, FLAC))) / 2


@pytest.mark.parametrize("kept", [FINE, SMALL])
def test_pictures_show_and_say_what_is_there(kept):
    time = np.arange(RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 2000 * time)).astype(np.float32)
    picture = spectrogram(tone, "a tone", kept)
    pixels = np.asarray(Image.open(io.BytesIO(content_of(picture.url))).convert("L")).astype(float)
    assert pixels.shape == (kept.height, kept.width)
    row = pixels.mean(1).argmax()
    assert abs((1 - (row + 0.5) / kept.height) * RATE / 2 - 2000) < 200
    assert "loudest point -6 dBFS" in picture.alt
    assert spectrogram(np.zeros(RATE), "silence", kept).alt.endswith("loudest point -90 dBFS, median -90 dBFS")
    assert "0.0 dB on average" in difference(tone, tone, RATE, "itself", kept).alt
    assert "1 to 4 kHz -6.0 dB" in difference(tone, tone / 2, RATE, "half", kept).alt
    assert difference(tone * 0, tone * 0, RATE, "nothing", kept).alt.endswith("both silent")


@given(st.floats(0.01, 1.0))
@settings(max_examples=20, deadline=None)
def test_band_levels_are_those_of_the_gain(gain):
    noise = np.random.default_rng(1).normal(0, 0.1, 4000)
    assert [round(value, 6) for _, value in band_levels(noise, gain * noise, RATE)] == [
        pytest.approx(20 * math.log10(gain), abs=1e-4)
    ] * 3


def test_what_is_quieter_than_quiet_has_no_band():
    noise = np.random.default_rng(1).normal(0, 1, 4000)
    assert band_levels(noise * 10 ** (-86 / 20), 0 * noise, RATE) == []
    # 20 dB above the threshold in total, distributed over the bands.
    found = band_levels(noise * 10 ** (-60 / 20), 0 * noise, RATE)
    assert sum(10 ** (-value / 10) for _, value in found) == pytest.approx(100, rel=0.05)


def test_every_panel_of_the_documentation_tells_how_to_read_it():
    """Each metric that docs/tracking.md lists has advice next to its curve, unless the page draws no curve of it."""
    documented = set(re.findall(r"`((?:loss|model|optim|valid|perf)/[\w]+)`", (ROOT / "docs/tracking.md").read_text()))
    documented -= {
        "valid/reference_then_reconstruction",
        "valid/examples",
        "valid/spectrograms",
        "valid/silent",
        "valid/bits_per_second_N",
        "perf/save_stall",
        *("valid/si_sdr_SET", "valid/stft_SET", "valid/mel_SET"),
    }
    assert len(documented) > 25
    assert {pattern(name.replace("_N", "_0")) for name in documented} <= READING.keys()


def test_curves_are_grouped_and_zeros_are_told():
    points = [
        {"step": s, "attempt": a, "loss/kl_0": s / 9, "loss/kl_1": 1.0, "optim/skipped": 0.0, "perf/x": 1.0}
        for s, a in ((1, 1), (2, 1), (3, 2))
    ]
    sections = {section.title: section for section in curves_of_run(points)}
    (chart,) = sections["Losses"].charts
    assert [name for _, name in chart.names] == ["level 0", "level 1"]
    assert (chart.title, chart.key) == ("KL by level, nats per input value", "loss/kl_N")
    assert sections["Optimisation and speed"].zeros == ["optim/skipped"]
    assert restarts(points) == [3]
    assert 'class="mark"' in chart.svg
    assert curves_of_run([]) == []


def test_scores_of_both_kinds_share_a_chart_and_the_phase_is_marked():
    points = [{"step": 0, "valid/silent": 0.0, "valid/mel": 2.0}, {"step": 10, "loss/total": 1.0}]
    points += [{"step": 12, "valid/silent": 0.0, "valid/mel": 1.0}, {"step": 20, "loss/total": 1.0}]
    points[-1] |= {"adversarial/real_score": 0.5, "adversarial/fake_score": -0.5, "loss/features": 0.3}
    later = {"valid/silent": 0.0, "valid/real_score": 0.1, "valid/fake_score": -0.2, "valid/features": 0.4}
    points += [points[-1] | later | {"step": 24, "adversarial/gradient_norm": 2.0}]
    assert phase_start(points) == 12
    assert phase_start(points[:3]) is None
    # An evaluation of the phase may come before the first point of the log in it.
    assert phase_start([*points[:3], {"step": 14, **later}, *points[3:]]) == 12
    sections = {section.title: section for section in curves_of_run(points)}
    charts = {chart.key: chart for chart in sections["Adversarial phase"].charts}
    assert charts.keys() == {"scores", "features", "adversarial/gradient_norm"}
    names = [f"{what}, {where}" for where in ("training", "held out") for what in ("recordings", "reconstructions")]
    assert [name for _, name in charts["scores"].names] == names
    assert [name for _, name in charts["features"].names] == ["training", "held out"]
    assert "mark phase" not in charts["scores"].svg, "it begins before this chart"
    (loss,) = sections["Losses"].charts
    assert loss.svg.count('class="mark phase"') == 1


def test_mid_and_side_share_charts():
    names = [f"{channel}_{name}" for channel in ("mid", "side") for name in ("si_sdr", "mel", "level")]
    points = [{"step": s, **{f"valid/{name}": s + i for i, name in enumerate(names)}} for s in (1, 2, 3)]
    (held_out,) = curves_of_run(points)
    assert [chart.key for chart in held_out.charts] == [f"mid and side {name}" for name in ("si_sdr", "mel", "level")]
    (of_two,) = curves_of_runs({"a": points, "b": points})
    assert {chart.key for chart in of_two.charts} == {f"valid/{name}" for name in names}


def test_lines_that_would_hide_each_other_are_one():
    points = [{"step": s, "weight/kl_0": 0.1 * s, "weight/kl_1": 0.1 * s, "weight/kl_2": 0.5} for s in (1, 2)]
    (section,) = curves_of_run(points)
    assert [name for _, name in section.charts[0].names] == ["level 0, 1", "level 2"]


def test_held_out_curves_have_what_the_report_found_beside_them():
    (section,) = curves_of_run([{"step": 1, "valid/si_sdr": 3.0}, {"step": 2, "valid/si_sdr": 4.0}], {"si_sdr": 5.0})
    assert "this report" in section.charts[0].svg
    assert "level" not in curves_of_run([{"step": 1, "valid/si_sdr": 3.0}])[0].charts[0].svg


def test_runs_share_curves_and_levels_are_summed():
    runs = {
        "vae": [{"step": 0, "loss/kl": 9.0}, {"step": 5, "loss/kl": 1.0}, {"step": 6, "loss/kl": 1.0}],
        "hvae": [{"step": 5, "loss/kl_0": 1.0, "loss/kl_1": 2.0}],
        "vqvae": [{"step": 5, "loss/commitment": 1.0}],
    }
    (section,) = curves_of_runs(runs)
    charts = {chart.key: chart for chart in section.charts}
    assert charts.keys() == {"loss/kl", "loss/commitment"}
    assert charts["loss/kl"].summary == "vae: from 1 at step 5 to 1 at 6; hvae: 3 at step 5"


def test_codes():
    usage = {"0": np.full(64, 1 / 64), "1": np.eye(64)[0]}
    even, dead = codebooks(usage)
    assert (even.used, even.perplexity) == (1.0, pytest.approx(64))
    assert (dead.used, dead.perplexity) == (1 / 64, pytest.approx(1))
    assert "codebook 1" in use_by_rank(usage).summary
    assert use_by_rank({}) is None


@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_the_command_on_the_page_makes_the_same_run(family):
    words = [family, "--data", "/some where/data", "--run-dir", "runs/it's", "--config", "x"]
    words[-1] = str(ROOT / f"train/configs/{family}_tiny.yaml")
    words += ["--optim.betas", "[0.8,0.9]", "--data.scratch", "/tmp/a b", "--tracking.samples", "true", "--seed", "7"]
    config = parse(words)[1]
    run = RunDir(Path("runs/it's"), Record("id", family, json.loads(json.dumps(flat(config))), "0"), 1)
    import shlex

    run.record.config |= {"stop_at": 3, "allow_changes": True}  # settings of a single attempt
    (command,) = training_commands(run)
    again = shlex.split(command)
    assert again[:4] == ["python", "-m", "train", family]
    assert flat(parse(again[3:])[1]) == flat(config)


def test_new_fields_of_a_summary_are_shown_where_they_are():
    own = {"si_sdr": 1.0, "bits": 3.0, "intervals": {"si_sdr": [0.5, 1.5], "bits": [3, 3]}, "interval_over": "blocks"}
    summary = {"reconstruction": own, "intervals": {"mse": [2, 4]}}
    assert [column.key for column in columns([own])] == ["si_sdr", "bits"]
    assert interval(summary, own, "si_sdr") == (0.5, 1.5)
    assert interval(summary, own, "mse") == (2.0, 4.0)
    assert interval(summary, own, "bits") is None, "a point is no interval"
    assert interval({}, {"si_sdr": 1.0}, "si_sdr") is None
    assert interval_note(summary).startswith("Small figures are 95 % intervals from resampling passages of ten chunks")
    assert interval_note({"reconstruction": {}}) == ""
    both = {"kl_nats_per_second": 1.0, "kl_bits_per_second": 1.4}
    assert [column.key for column in columns([both])] == ["kl_bits_per_second"], (
        "the same value in two units is one column"
    )
    assert mean_use([{"active_units": 0.5}, {"active_units": 1.0}]) == {"mean_active_units": 0.75}
    assert mean_use([]) == {}


@given(st.text())
def test_no_text_is_markup_or_turns_text_around(text):
    """Any file name, here in a warning of a comparison, is shown as plain text."""
    page = render(
        "comparison.html",
        runs=[],
        columns=[],
        best={},
        intervals=[],
        winners=[],
        warnings=[f"<b>{text}</b>"],
        kinds=[],
        examples_from="",
        sound=FLAC,
        sections=[],
        settings=[],
        repeated_styles=False,
        differences=[],
        recordings=[],
        states=[],
    )
    assert "<b>" not in page
    line = re.search(r"<li>&lt;b&gt;(.*?)&lt;/b&gt;</li>", page, re.DOTALL)[1]
    assert all(c.isprintable() or c in JOINERS + "\n" for c in line)
    assert "<" not in line
    page.encode("utf-8")


def test_numbers_for_people():
    assert [figure(x) for x in (12.345, 0.00012345, 1234.5, 904, None, math.nan, -0.5)] == [
        *("12.3", "0.000123", "1,234", "904", "—", "—", "-0.5")
    ]
    assert [figure(x) for x in (999.4, 999.5, 999.96, 99999.6)] == ["999", "1,000", "1,000", "100,000"]
    assert [short(x) for x in (999.7, 9999.7, 1e6, 999999.0, 0.0004)] == ["1000", "10k", "1M", "1M", "4e-4"]
    assert short(0.00034) == "3.4e-4"


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=30, unique=True), st.integers(1, 9)
)
@settings(deadline=None)
def test_examples_share_no_sound_where_they_need_not(places, count):
    sources, starts = np.array(places).T
    picker = Picker(sources, starts, samples=2)
    best, median, worst = extremes(range(len(places)), count, picker)
    wanted = min(count, max(1, len(places) // 3))
    assert best[0] == 0
    if len(places) > 2:
        assert len(best) == len(median) == len(worst) == wanted
    assert best == sorted(best)
    assert median == sorted(median)
    assert worst == sorted(worst, reverse=True)
    chosen = [*best, *median, *worst]
    assert len({*chosen}) == len(chosen)
    overlapping = [
        (i, j) for i in chosen for j in chosen if i < j and sources[i] == sources[j] and abs(starts[i] - starts[j]) < 2
    ]
    free = [
        i
        for i in range(len(places))
        if not any(sources[i] == sources[j] and abs(starts[i] - starts[j]) < 2 for j in chosen)
    ]
    assert not overlapping or not free, "an overlapping chunk was taken although another was available"


def test_the_very_worst_comes_first():
    picker = Picker(np.zeros(9, int), 10 * np.arange(9), samples=1)
    assert extremes(range(9), 2, picker) == ([0, 1], [3, 4], [8, 7])


ROW = {"si_sdr": 25.0, "mel": 0.2}
FLOORS = {"silence": {"mel": 4.0}, "mean of training chunks": {"mel": 2.0}}


def said(**more) -> list[tuple[bool, str]]:
    summary = {"reconstruction": ROW, "floors": FLOORS, "latents": [], "levels": [], **more}
    return [(one.good, one.text) for one in verdict(summary)]


def test_the_verdict_in_words():
    (spectra, good), (waveform, too) = [(text, good) for good, text in said()]
    assert good
    assert too
    assert "close" in spectra
    assert "reproduced closely: 0.32 % of the output is error" in waveform
    bad = said(reconstruction={"si_sdr": -30.0, "mel": 1.9})
    assert [good for good, _ in bad] == [False, False]
    assert "hardly closer" in bad[0][1]
    assert said(reconstruction={"si_sdr": None, "mel": None}) == []
    # Of recordings that are nearly mono, their mono mix is nearly perfect, and no untrained baseline.
    assert said(floors={**FLOORS, MONO_MIX: {"mel": 0.01}}) == said()
    assert len(said(reconstruction={"si_sdr": -30.0, "mel": 0.3}, representation="mel")) == 1, (
        "mel models invent phases"
    )
    middle = said(reconstruction={"si_sdr": 10.0, "mel": 1.0})
    assert "recognisable" in middle[0][1]
    assert "reproduced with audible error" in middle[1][1]
    for distance, good in ((0.5, True), (0.8, False), (1.09, False)):
        found = said(reconstruction={**ROW, "stft": distance})[1]
        assert found[0] is good
        assert f"STFT distance {distance:g}" in found[1]
        assert good or "below 0.6 is good" in found[1]
    assert "large errors" in said(reconstruction={**ROW, "stft": 1.09})[1][1]


def test_the_verdict_on_latents_silence_and_prior():
    levels = [{"active_units": 0.9}, {"active_units": 0.02}]
    rows = [{"known": [0, 1], "si_sdr": 25.0, "mel": 0.2}, {"known": [0], "si_sdr": 24.9, "mel": 0.2}]
    words = said(latents=levels, levels=rows)[2:]
    assert words == [
        (
            False,
            "Idle level: level 1 adds only +0.10 dB of SI-SDR. Its channels may be active, but the reconstruction "
            "hardly depends on them.",
        ),
        (False, "Posterior collapse: only 2 % of the channels of level 1 are active (vary with the input)."),
    ]
    # An idle level whose channels are active: a green "No collapse" would contradict the warning.
    (idle,) = said(latents=[{"active_units": 1.0}] * 2, levels=rows)[2:]
    assert not idle[0]
    assert "may be active" in idle[1]
    rows[1]["si_sdr"] = 20.0
    assert said(latents=[{"active_units": 0.9}] * 2, levels=rows)[2:] == [
        (True, "No collapse: at least 90 % of the channels of each level are active (vary with the input).")
    ]
    assert said(latents=[{"active_units": 1.0}] * 2, levels=rows)[2:] == [
        (True, "No collapse: all of the channels of each level are active (vary with the input).")
    ]
    assert "codebook 1 uses only 30 %" in said(latents=[{"codes_used": 0.9}, {"codes_used": 0.3}])[2][1]
    loud = said(silent={"reference_dbfs": -100.0, "output_dbfs": -40.0})[2]
    quiet = said(silent={"reference_dbfs": -100.0, "output_dbfs": -90.0})[2]
    assert (loud[0], quiet[0]) == (False, True)
    assert "hiss" in loud[1]
    for distance, fine in ((12.0, True), (99.0, False)):
        assert said(samples={"frechet": distance}, frechet={"noise_floor": 10.0})[2][0] is fine


def test_recordings_stand_with_the_hardest_first_and_the_use_of_their_latents():
    rows = [
        {"path": "easy", "si_sdr": 9.0, "chunks": 2, "latents": [{"active_units": 0.5}, {"active_units": 1.0}]},
        {"path": "silent", "si_sdr": None, "chunks": 1, "latents": []},
        {"path": "hard", "si_sdr": -3.0, "chunks": 2, "intervals": {"si_sdr": [-4.0, -2.0]}, "latents": []},
    ]
    table = recordings_table({"recordings": rows, "silent_chunks": 1, "reconstruction": {}})
    assert [row["path"] for row, _ in table["rows"]] == ["hard", "easy", "silent"]
    assert table["rows"][0][1]["si_sdr"] == (-4.0, -2.0)
    assert [column.key for column in table["columns"]] == ["si_sdr", "mean_active_units"]
    assert table["silent"]
    assert extent({"chunks": 1234, "recordings": rows}) == "1,234 chunks of 3 recordings"
    assert extent({"chunks": 1, "recordings": rows[:1]}) == "1 chunk of 1 recording"


def test_bars_are_out_of_all():
    """A collapsed level has a short bar even if it is the only level."""
    (row,) = latent_table([{"active_units": 0.02, "kl_bits_per_second": 7.0}], [])["rows"]
    assert row[2] == {"active_units": 0.02}
    books = [Codebook("0", 64, 1.0, 32.0)]
    table = latent_table([{"codes_used": 0.5, "perplexity": 16.0, "bits_per_second": 900.0}], books)
    assert table["kind"] == "codebook"
    assert table["rows"][0][2] == {
        "codes_used": 0.5,
        "perplexity": 0.25,
        "trained_codes_used": 1.0,
        "trained_perplexity": 0.5,
    }


def test_all_levels_have_a_row_of_their_own_only_where_they_were_measured_on_a_part():
    own = {"si_sdr": 9.0}
    summary = {"reconstruction": own, "latents": [{}, {}], "floors": {"silence": {}}}
    levels = [{"known": [0, 1], "si_sdr": 9.0}, {"known": [0], "si_sdr": 8.0}]
    assert [name for name, _ in table_rows({**summary, "levels": levels})] == [
        *("reconstruction", "level 0 only", "floor: silence")
    ]
    levels[0]["si_sdr"] = 9.5
    assert [name for name, _ in table_rows({**summary, "levels": levels})][1] == "all levels"
