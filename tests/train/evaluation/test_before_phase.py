"""The report section on what the adversarial phase changed."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from browser import CHROMIUM, DRIVER, chromium
from hypothesis import given, settings
from hypothesis import strategies as st

from audiovae.card import read_facts, write_facts
from shards import Split
from tests.train.conftest import RATE, SAMPLES, flags, train
from tests.train.evaluation.test_report_page import DURATIONS, LAYOUT, READY, Outline
from train.__main__ import run as main_run
from train.cli.parser import parse
from train.config import flat, phase_start_of
from train.evaluation.before.differences import OF_CHUNKS, WORDS, before_summary, in_words, paired_row, verdict_on
from train.evaluation.before.earlier import Earlier, checkpoint_before
from train.evaluation.before.examples import before_examples
from train.evaluation.measuring.chunks import Measured
from train.evaluation.measuring.metrics import log_mel_error_high
from train.evaluation.measuring.summary_file import read_summary
from train.evaluation.report.measures import KNOWN, OF_PHASE
from train.evaluation.yardsticks import perceptual
from train.runs.latest_model import before_phase, load_weights
from train.runs.run_folder import RunDir

START, STEPS = 2, 4
PHASE = {"start": START, "windows": "[256,128]", "filters": 4, "lead": 0, "ramp": 0, "rate": 0.01, "weight": 1.0}
BEFORE = f"step-{START:08d}"


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory) -> Path:
    """A finished run with an adversarial phase, without a report; read it only."""
    folder = tmp_path_factory.mktemp("phase") / "run"
    more = [word for name, value in PHASE.items() for word in (f"--adversarial.{name}", str(value))]
    train(flags("vae", data_dir, folder, "--optim.steps", str(STEPS), *more, "--tracking.evaluate_every", "100000"))
    return folder


@pytest.fixture(scope="module")
def report(run, tmp_path_factory) -> Path:
    """Its report with Zimtohrli."""
    out = tmp_path_factory.mktemp("phase-report") / "report"
    with pytest.MonkeyPatch.context() as patched:
        # ViSQOL has no wheel of all it needs, so it may not be installed here.
        patched.setattr("train.evaluation.evaluate.require_perceptual_packages", lambda: None)
        heard = iter([4.125])
        patched.setattr(perceptual, "visqol", lambda reference, output: next(heard))  # not for the earlier model
        words = ["evaluate", str(run), "--out", str(out), "--examples", "1", "--no-yardsticks", "--perceptual"]
        assert main_run(words) == 0
    return out


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """A copy of the run that a test may change."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def summary_of(report: Path) -> dict:
    return json.loads((report / "metrics.json").read_text())


def test_the_page_shows_what_the_phase_changed(report):
    summary = read_summary(report / "metrics.json")  # its checksum is right
    found = summary["before_phase"]
    assert [measure.key for measure in OF_PHASE] == list(found["measures"])
    assert (found["model"], found["step"], summary["model"]) == (BEFORE, START, "model")
    assert (found["chunks"], found["passages"]) == (summary["chunks"], 1)
    for key, row in found["measures"].items():
        assert row["difference"] == pytest.approx(row["after"] - row["before"], abs=1e-6)
        assert row["difference"] != 0
        assert (row["interval"] is None) == (key not in OF_CHUNKS), "there is one passage"
    assert found["frechet"]["before"] != found["frechet"]["after"] == summary["reconstruction"]["frechet"]
    page = (report / "index.html").read_text()
    section = re.search(r'<section aria-labelledby="phase">.*?</section>', page, re.DOTALL)[0]
    assert "<strong>" + found["summary"] + "</strong>" in section
    assert "too few recordings to tell in level error above 4 kHz and Zimtohrli." in found["summary"]
    for measure in OF_PHASE:
        assert section.count(f">{measure.heading}<") == 1
    assert "single chunks" in section
    assert section.count("<audio") == section.count("<img") == 3
    assert page.count('href="#phase"') == 1
    assert "--no-before" not in page
    sounds = [soundfile.read(report / "audio" / f"phase-1-{word}.wav")[0] for word in ("reference", "before", "after")]
    assert len({len(sound) for sound in sounds}) == 1
    assert len(sounds[0]) == pytest.approx(3 * RATE, abs=SAMPLES)
    assert np.abs(sounds[1] - sounds[2]).max() > 0
    outline = Outline(page)
    pairs = zip(outline.headings, outline.headings[1:], strict=False)
    assert all(after <= before + 1 for before, after in pairs)
    assert len({*(player["aria-label"] for player in outline.every("audio"))}) == len(outline.every("audio"))


def test_both_models_have_the_figures_of_their_own_evaluations(report, copy, capsys):
    """The run as it was when the phase began: its newest weights are those of the checkpoint."""
    shutil.rmtree(copy / "model")
    (copy / "DONE").unlink()
    for later in (copy / "checkpoints").iterdir():
        if later.name > BEFORE:
            shutil.rmtree(later)
    assert main_run(["evaluate", str(copy), "--examples", "1", "--no-yardsticks"]) == 0
    assert "warning" not in capsys.readouterr().err
    after, before = summary_of(report), summary_of(copy / "report")
    assert before["model"] == BEFORE
    assert "before_phase" not in before, "nothing of the phase is trained yet"
    assert 'id="phase"' not in (copy / "report" / "index.html").read_text()
    found = after["before_phase"]
    rows = {"before": before["reconstruction"], "after": after["reconstruction"]}
    assert found["frechet"] == {name: row["frechet"] for name, row in rows.items()}
    for key in ("si_sdr", "mel", "stft"):
        row = found["measures"][key]
        assert row["before"] == before["reconstruction"][key]
        assert row["after"] == after["reconstruction"][key]
    row = found["measures"]["level_error_high"]
    assert row["before"] == before["passages"]["rows"][0]["level_error_high"]
    assert row["after"] == after["passages"]["rows"][0]["level_error_high"]


def test_two_processes_measure_what_one_does(report, copy):
    words = ["evaluate", str(copy), "--examples", "1", "--no-yardsticks"]
    said = train(words, processes=2)
    assert said.count(f"phase:   since step {START}, where the adversarial phase began: ") == 1
    alone, together = (summary_of(folder)["before_phase"] for folder in (report, copy / "report"))
    assert alone["measures"].keys() - together["measures"].keys() == {"zimtohrli"}
    for key, row in together["measures"].items():
        for value in ("before", "after"):
            assert row[value] == pytest.approx(alone["measures"][key][value], rel=1e-5)


def test_a_damaged_checkpoint_is_one_line_and_no_section(copy, capsys):
    """Then the report is that of --no-before, which says nothing."""
    weights = copy / "checkpoints" / BEFORE / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    texts = []
    for more in ([], ["--no-before"]):
        assert main_run(["evaluate", str(copy), "--examples", "1", "--no-yardsticks", *more]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if line and not line.endswith(" left")]
        assert len(said) == (0 if more else 1), said
        if not more:
            assert said[0].startswith(f"warning: {weights.parent}: model.safetensors differs from what was saved; ")
            assert "--no-before" in said[0]
        page = (copy / "report" / "index.html").read_text()
        assert 'id="phase"' not in page
        assert "--no-yardsticks --no-before" in page
        assert not list((copy / "report" / "audio").glob("phase-*"))
        texts.append((copy / "report" / "metrics.json").read_bytes())
    assert texts[0] == texts[1]
    assert b"before_phase" not in texts[0]


def test_a_missing_checkpoint_is_warned_of(copy, straight, capsys):
    opened = RunDir.open(copy)
    assert checkpoint_before(opened, "model") == copy / "checkpoints" / BEFORE
    shutil.rmtree(copy / "checkpoints" / BEFORE)
    assert capsys.readouterr().err == ""
    assert checkpoint_before(opened, "model") is None
    assert capsys.readouterr().err.startswith(f"warning: {copy / 'checkpoints' / BEFORE}: is missing; ")
    assert checkpoint_before(RunDir.open(straight("vae")), "model") is None, "a run without the phase"
    assert capsys.readouterr().err == ""


def test_a_model_that_cannot_be_measured_is_one_line(copy, monkeypatch, capsys):
    """The checkpoint is intact, but holds the model of another run."""
    other = SimpleNamespace(samples=SAMPLES + 1, rate=RATE, audio_channels=1)
    monkeypatch.setattr("train.evaluation.before.earlier.load_weights", lambda path, device: other)
    assert main_run(["evaluate", str(copy), "--examples", "1", "--no-yardsticks"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1
    assert f"{copy / 'checkpoints' / BEFORE}: its model takes other chunks" in said[0]
    assert "before_phase" not in summary_of(copy / "report")


def test_the_weights_of_a_diverged_phase_may_be_from_before_it(copy):
    """The model folder then holds an earlier checkpoint, which its card names."""
    opened = RunDir.open(copy)
    for name in (f"step-{START + 1:08d}", "model"):
        assert before_phase(opened, name) == copy / "checkpoints" / BEFORE
    assert before_phase(opened, BEFORE) is None
    write_facts(copy / "model", dataclasses.replace(read_facts(copy / "model"), steps=START))
    assert before_phase(opened, "model") is None


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--adversarial.start", "3"],
        ["--adversarial.start", "0.25"],
        ["--adversarial.start", "0.5", "--optim.hold_from", "4", "--optim.final_lr", "0.1"],
        ["--adversarial.start", "0.5", "--optim.cycle_from", "5"],
    ],
)
def test_the_recorded_settings_tell_when_the_phase_begins(more, tmp_path):
    config = parse(flags("vae", tmp_path / "data", tmp_path / "run", *more))[1]
    recorded = json.loads(json.dumps(flat(config)))
    assert phase_start_of(recorded) == config.phase_start
    assert (phase_start_of(recorded) is None) == (not more)
    del recorded["adversarial.start"]
    assert phase_start_of(recorded) is None, "a run of an older version"


@pytest.mark.parametrize("start", ["4", True, float("nan"), float("inf"), 1.5, None, [4]])
def test_settings_of_a_strange_run_are_no_phase(start):
    assert phase_start_of({"adversarial.start": start, "optim.steps": 10}) is None


def tone(hz: float, amplitude: float) -> torch.Tensor:
    return amplitude * torch.sin(2 * torch.pi * hz * torch.arange(RATE) / RATE).view(1, 1, -1)


def test_the_log_mel_error_is_of_what_can_be_heard_above_4_khz():
    noise = torch.randn(1, 1, RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    assert log_mel_error_high(2 * noise, noise, RATE).item() == pytest.approx(np.log(2), abs=1e-4)
    assert log_mel_error_high(noise, 2 * noise, RATE).item() == pytest.approx(np.log(2), abs=1e-4)
    assert log_mel_error_high(noise, noise, RATE).item() == 0
    # Below 4 kHz, and below -80 dBFS, nothing counts. The window's side lobes at 6 kHz are that low.
    assert log_mel_error_high(tone(1000, 0.2), tone(1000, 0.1), RATE).item() < 0.02
    assert log_mel_error_high(tone(6000, 0.9e-4), 0 * noise, RATE).item() == 0
    assert log_mel_error_high(tone(6000, 0.2), tone(6000, 0.1), RATE).item() > 0.02
    louder = log_mel_error_high(torch.cat([tone(6000, 0.2), tone(6000, 0.4)]), tone(6000, 0.1).repeat(2, 1, 1), RATE)
    assert louder[1] > louder[0]
    assert log_mel_error_high(noise, noise, 8000).isnan().all()


@given(st.floats(-3, 3).filter(lambda shift: abs(shift) > 1e-3), st.integers(5, 40))
@settings(max_examples=20)
def test_a_difference_is_paired_and_its_sign_is_judged(shift, count):
    """All values differ by the same, so the difference is certain, however much the values vary."""
    rng = np.random.default_rng(count)
    before = rng.normal(0, 100, count)
    after = before + shift
    before[0] = np.nan
    places = np.arange(count), np.zeros(count, int)
    row = paired_row(KNOWN["si_sdr"], [before, after], places, SAMPLES)
    assert row["difference"] == pytest.approx(shift)
    assert row["interval"] == pytest.approx([shift, shift])
    assert row["before"] == pytest.approx(before[1:].mean())
    assert row["after"] - row["before"] == pytest.approx(shift)
    assert row["verdict"] == ("better" if shift > 0 else "worse")
    assert paired_row(KNOWN["mel"], [before, after], places, SAMPLES)["verdict"] == ("worse" if shift > 0 else "better")
    assert row["interval_over"] == ("recordings" if count > 5 else "chunks")
    passages = paired_row(KNOWN["zimtohrli"], [before, after], places, SAMPLES)
    assert passages["interval_over"] == ("recordings" if count > 5 else "passages")
    assert paired_row(KNOWN["mel"], [before * np.nan, after], places, SAMPLES) is None


@pytest.mark.parametrize(
    ("interval", "higher", "expected"),
    [
        ((0.1, 0.2), True, "better"),
        ((0.1, 0.2), False, "worse"),
        ((-0.2, -0.1), False, "better"),
        ((-0.2, -0.1), True, "worse"),
        ((-0.1, 0.2), True, "none"),
        ((0.0, 0.0), False, "none"),
        (None, True, "unknown"),
    ],
)
def test_a_verdict_is_that_of_the_interval(interval, higher, expected):
    assert verdict_on(interval, higher) == expected


def test_the_sentence_names_every_measure_once():
    rows = {measure.key: {"verdict": verdict} for measure, verdict in zip(OF_PHASE, [*WORDS] * 2, strict=False)}
    assert in_words(rows) == (
        "Better in SI-SDR and level error above 4 kHz; worse in mel distance and Zimtohrli; "
        "no difference in STFT distance; too few recordings to tell in log-mel error above 4 kHz."
    )
    assert in_words({measure.key: {"verdict": "none"} for measure in OF_PHASE[:3]}) == (
        "No difference in SI-SDR, mel distance and STFT distance."
    )


def test_recordings_too_short_for_a_passage_are_compared_by_chunks(run, data_dir):
    """The third chunk is silent, and the last one gains most."""
    split = Split.open(data_dir, "valid")
    count = len(split)
    rng = np.random.default_rng(0)

    def measured(high: np.ndarray) -> Measured:
        columns = {name: rng.normal(size=count) for name in ("si_sdr", "mel", "stft")}
        columns |= {"log_mel_high": high, "silent": np.zeros(count), "embedding": rng.normal(size=(count, 4))}
        columns["silent"][2], columns["si_sdr"][2] = 1, np.nan
        return Measured(np.arange(count), *split.keys(), columns)

    before = np.linspace(1, 2, count)
    later = measured(np.ones(count) - (np.arange(count) == 2))
    models = [load_weights(run / part, "cpu") for part in (f"checkpoints/{BEFORE}", "model")]
    earlier = Earlier(BEFORE, START, models[0], measured(before), None)
    examples = before_examples(earlier, models[1], split, later, None)
    assert [example.title for example in examples] == ["Largest gain", "Median gain", "Largest loss"]
    starts = split.keys()[1] / split.rate
    assert examples[0].start_s == starts[-1]
    assert examples[2].start_s == starts[0]
    assert examples[0].figures == "Log-mel error above 4 kHz: 2 before, 1 after"
    assert all(len(sound) == split.samples for example in examples for sound in example.sounds.values())
    found = before_summary(earlier, later, rng.normal(size=(count, 4)), None, split)
    assert list(found["measures"]) == list(OF_CHUNKS)
    assert (found["chunks"], found["passages"]) == (count - 1, 0)
    assert found["measures"]["log_mel_high"]["before"] == pytest.approx(np.delete(before, 2).mean())


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")
def test_in_a_browser_the_three_sounds_take_turns(report):
    with chromium() as browser:
        for width in (390, 1280):
            browser.look(width)
            browser.open(report / "index.html")
            browser.wait(READY)
            assert browser.run(LAYOUT) == [[], []]
        assert all(told == pytest.approx(true, abs=0.002) for told, true in browser.run(DURATIONS))
        browser.run(
            "window.group = document.getElementById('phase-1').closest('article');"
            "window.p = [...group.querySelectorAll('audio')]; window.one = [...group.querySelectorAll('.one')];"
        )
        assert browser.run("return p.map(a => a.dataset.name).join()") == "reference,before,after"
        browser.run("one[1].click()")
        browser.wait("return p.every(a => !a.paused) && p.map(a => a.muted).join() == 'true,false,true'")
        browser.wait("return p[1].currentTime > 0.3")
        browser.run("window.left = p[1].currentTime; group.querySelector('.go').click(); window.at = p[2].currentTime;")
        assert browser.run("return at - left") == pytest.approx(0, abs=0.1)
        browser.wait("return p.map(a => a.muted).join() == 'true,true,false'")
        assert browser.logs()[1] == []
