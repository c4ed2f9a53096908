"""The parts of report pages, by what must hold for all inputs."""

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

from train.command import parse
from train.config import flat
from train.report.charts import BUCKETS, Axis, Series, line_chart, short, thinned
from train.report.codes import codebooks, use_by_rank
from train.report.curves import READING, curves_of_run, pattern, restarts
from train.report.facts import training_command
from train.report.measures import columns, interval, others
from train.report.rendering import figure, printable, render
from train.report.sounds import FLAC, VORBIS, sound_url
from train.report.spectrograms import FINE, SMALL, band_levels, difference, spectrogram
from train.rundir import RunDir

ROOT = Path(__file__).parents[2]
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
            assert 53 <= x <= 389
            assert 9 <= y <= 185


@given(st.lists(st.floats(), min_size=1, max_size=6))
@settings(deadline=None)
def test_any_numbers_can_be_drawn(values):
    """Of a run that exploded."""
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
    # 20 dB above it, shared by the bands: so much is missing from silence.
    found = band_levels(noise * 10 ** (-60 / 20), 0 * noise, RATE)
    assert sum(10 ** (-value / 10) for _, value in found) == pytest.approx(100, rel=0.05)


def test_every_panel_of_the_documentation_tells_how_to_read_it():
    """What docs/tracking.md lists with a meaning of its own has one beside its curve too."""
    told = set(re.findall(r"`((?:loss|model|optim|valid|perf)/[\w]+)`", (ROOT / "docs/tracking.md").read_text()))
    told -= {
        "valid/reference_then_reconstruction",
        "valid/examples",
        "valid/spectrograms",
        "valid/silent",
        "perf/save_stall",
    }
    assert len(told) > 25
    assert {pattern(name.replace("_N", "_0")) for name in told} <= READING.keys()


def test_curves_are_grouped_and_zeros_are_told():
    points = [
        {"step": s, "attempt": a, "loss/kl_0": s / 9, "loss/kl_1": 1.0, "optim/skipped": 0.0, "perf/x": 1.0}
        for s, a in ((1, 1), (2, 1), (3, 2))
    ]
    sections = {section.title: section for section in curves_of_run(points)}
    (chart,) = sections["Losses"].charts
    assert [name for _, name in chart.names] == ["0", "1"]
    assert sections["Optimisation and speed"].zeros == ["optim/skipped"]
    assert restarts(points) == [3]
    assert 'class="mark"' in chart.svg
    assert curves_of_run([]) == []


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
    run = RunDir(Path("runs/it's"), "id", family, json.loads(json.dumps(flat(config))), "0", 1)
    import shlex

    again = shlex.split(training_command(run))
    assert again[:4] == ["python", "-m", "train", family]
    assert flat(parse(again[3:])[1]) == flat(config)


def test_new_fields_of_a_summary_are_shown_where_they_are():
    own = {"si_sdr": 1.0, "bits": 3.0, "intervals": {"si_sdr": [0.5, 1.5]}}
    summary = {
        "reconstruction": own,
        "frechet": {"reconstruction": 2.0},
        "chunks": 4,
        "silent": {"chunks": 1},
        "intervals": {"bits": [2, 4]},
    }
    assert [column.key for column in columns([own])] == ["si_sdr", "bits"]
    assert interval(summary, own, "si_sdr") == (0.5, 1.5)
    assert interval(summary, own, "bits") == (2.0, 4.0)
    assert interval({}, {"si_sdr": 1.0}, "si_sdr") is None
    assert others(summary) == {"Fréchet distance, reconstruction": 2.0, "silent, chunks": 1}


@given(st.text())
def test_no_text_is_markup_or_turns_text_around(text):
    """Whatever a file is called: in a warning of a comparison, which is plain text."""
    page = render(
        "comparison.html",
        runs=[],
        columns=[],
        best={},
        intervals=[],
        winners=[],
        warnings=[f"<b>{text}</b>"],
        kinds=[],
        heard_on="",
        sound=FLAC,
        sections=[],
        settings=[],
        repeated_styles=False,
        kind="held-out",
    )
    assert "<b>" not in page
    line = re.search(r"<li>&lt;b&gt;(.*?)&lt;/b&gt;</li>", page, re.DOTALL)[1]
    assert all(c.isprintable() or c == "\n" for c in line)
    assert "<" not in line
    page.encode("utf-8")


def test_numbers_for_people():
    assert [figure(x) for x in (12.345, 0.00012345, 1234.5, 904, None, math.nan, -0.5)] == [
        *("12.3", "0.000123", "1,234", "904", "—", "—", "-0.5")
    ]
    assert [figure(x) for x in (999.4, 999.5, 999.96, 99999.6)] == ["999", "1,000", "1,000", "100,000"]
    assert [short(x) for x in (999.7, 9999.7, 1e6, 999999.0, 0.0004)] == ["1000", "10k", "1M", "1M", "4e-4"]
    assert printable("a\u202eb\udc80\nc") == "a\\u202eb\\udc80\nc"
