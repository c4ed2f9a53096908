"""Report pages in a real browser."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from browser import CHROMIUM, DRIVER, chromium

from shards.building.build import build
from tests.train.conftest import RATE, SAMPLES, flags, train, tune
from train.__main__ import run
from train.evaluation.report import page as page_parts
from train.evaluation.report.page import Example, Page, write_page

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: apt-get install chromium chromium-driver"
)
# A page without escaping would run this name as a script.
EVIL = "<script>alert(1)</script>.wav"
DURATIONS = "return [...document.querySelectorAll('audio')].map(a => [a.duration, +a.dataset.seconds])"
READY = "return [...document.querySelectorAll('audio')].every(a => Number.isFinite(a.duration))"

# [elements that leave the page or are cut by a box without a hint, words of text that are broken inside]
LAYOUT = r"""
const shown = (e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest(".skip");
const over = [...document.body.querySelectorAll("*")].filter((e) => {
  const box = e.closest(".scroll");
  if (!shown(e) || e.closest("svg")) return false;
  if (box && box !== e) {
    const hint = box.previousElementSibling;
    return box.scrollWidth > box.clientWidth && !(hint.className === "hint" && shown(hint));
  }
  const { left, right } = e.getBoundingClientRect();
  return left < -1 || right > document.documentElement.clientWidth + 1;
}).map((e) => e.outerHTML.slice(0, 80));
const broken = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const text = texts.currentNode;
  const parent = text.parentElement;
  if (!shown(parent) || parent.closest("code, pre, bdi, svg, script")) continue;
  for (const word of text.data.matchAll(/[\p{L}\p{N}]+/gu)) {
    const range = document.createRange();
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    if (new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1) broken.push(word[0]);
  }
}
return [over, broken];
"""


class Outline(HTMLParser):
    """The elements that a screen reader reads: levels of headings, tables, players, pictures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def evil_data(tmp_path_factory):
    """Shards of recordings with names that must be escaped; all but one are held out."""
    audio = tmp_path_factory.mktemp("evil")
    names = (EVIL.replace("/", "\u2215"), "a&b 'c' \"d\" {{ 7*7 }}.wav", "\u202egnp.wav", "plain.wav")
    for seed, name in enumerate(names):
        soundfile.write(audio / name, tune(2.0, seed), RATE)
    folder = tmp_path_factory.mktemp("evil-data") / "set"
    build(audio, folder, samples=SAMPLES, hop=SAMPLES, valid=0.6, workers=1)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, evil_data, straight):
    """Two runs of different families, evaluated on the same data."""
    folder = tmp_path_factory.mktemp("evil-runs")
    train(flags("hvae", evil_data, folder / "hvae"))
    shutil.copytree(straight("vqvae"), folder / "vqvae")
    for family in ("hvae", "vqvae"):
        assert run(["evaluate", str(folder / family), "--data", str(evil_data), "--examples", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def pages(runs):
    """The pages of two runs and of their comparison."""
    both = ["compare", str(runs / "hvae"), str(runs / "vqvae")]
    assert run([*both, "--out", str(runs / "both"), "--examples", "1"]) == 0
    return {
        "hvae": runs / "hvae/report/index.html",
        "vqvae": runs / "vqvae/report/index.html",
        "compare": runs / "both/index.html",
    }


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@needs_chromium
@pytest.mark.parametrize("name", ["hvae", "vqvae", "compare"])
def test_opens_whole_and_fetches_nothing(name, pages, browser):
    browser.open(pages[name])
    browser.wait(READY)
    durations = browser.run(DURATIONS)
    assert len(durations) >= (4 if name == "compare" else 20)
    assert all(told == pytest.approx(true, abs=0.002) for told, true in durations), "lengths of the recordings"
    browser.run("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
    browser.wait("return [...document.images].every(i => i.complete && i.naturalWidth)")
    fetched, said = browser.logs()
    assert any(url.startswith("file:") for url in fetched)
    assert all(url.startswith(("file:", "data:", "about:")) for url in fetched)
    assert sum(url.startswith("file:") for url in fetched) == 1, "the page is one self-contained file"
    assert said == []
    assert "alert" not in browser.run("return [...document.scripts].map(s => s.textContent).join()")


@needs_chromium
@pytest.mark.parametrize("name", ["hvae", "vqvae", "compare"])
def test_fits_on_phones_and_desks_in_both_themes(name, pages, browser):
    browser.open(pages[name])
    shades = {}
    for scheme in ("light", "dark"):
        for width in (360, 1280):
            browser.look(width, scheme)
            assert browser.run("return document.documentElement.scrollWidth") <= width
        shade = browser.run("return getComputedStyle(document.body).backgroundColor")
        ink = browser.run("return getComputedStyle(document.querySelector('h1')).color")
        shades[scheme] = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (shade, ink)]
    assert shades["light"][0] > 600 > 200 > shades["light"][1]
    assert shades["dark"][0] < 100 < 600 < shades["dark"][1]
    line = "return getComputedStyle(document.querySelector('.line')).stroke"
    browser.look(1280, "light")
    light = browser.run(line)
    browser.look(1280, "dark")
    assert light != browser.run(line), "curves follow the theme"


@needs_chromium
@pytest.mark.parametrize("name", ["hvae", "vqvae", "compare"])
def test_nothing_is_cut_without_a_hint_and_no_word_is_broken(name, pages, browser):
    browser.open(pages[name])
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    hinted = []
    for scheme in ("light", "dark"):
        for width in (390, 768, 1280):
            browser.look(width, scheme)
            browser.wait(
                "return [...document.querySelectorAll('.scroll')].every("
                "b => b.previousElementSibling.hidden == (b.scrollWidth <= b.clientWidth))"
            )
            assert browser.run(LAYOUT) == [[], []], (scheme, width)
            column, right = browser.run(
                "return ['main', '.scroll'].map(w => document.querySelector(w).getBoundingClientRect().right)"
            )
            assert right <= column, "tables stay in the column"
            hinted.append(len(browser.run("return [...document.querySelectorAll('.hint')].filter(h => !h.hidden)")))
    assert hinted[0] >= 2, "wide tables scroll on a phone"
    assert hinted[0] > hinted[2]


@needs_chromium
def test_players_take_turns_and_the_switch_keeps_the_place(pages, browser):
    browser.open(pages["hvae"])
    browser.wait(READY)
    # The longest players are long enough to observe them while they play.
    browser.run("window.p = [...document.querySelectorAll('audio')].sort((a, b) => b.duration - a.duration);")
    browser.run("return p[0].play()")
    browser.wait("return !p[0].paused")
    browser.run("return p[1].play()")
    browser.wait("return p[0].paused && !p[1].paused")
    browser.run("p[1].pause()")
    browser.run(
        "window.group = [...document.querySelectorAll('[data-switch]')].pop();"
        "[window.a, window.b] = group.querySelectorAll('audio'); a.currentTime = 1.0;"
        "window.go = group.querySelector('.go');"
    )
    browser.wait("return !a.seeking")
    browser.run("go.click();")
    both = "return !a.paused && !b.paused && a.muted == {} && b.muted == {} && go.textContent == 'Switch to {}'"
    browser.wait(both.format("false", "true", "reconstruction"))
    browser.wait("return a.currentTime >= 1.0 && b.currentTime >= 1.0")
    # Both players continue; the audible one changes without a gap, at the same position.
    browser.run("window.left = a.currentTime; go.click(); window.at = b.currentTime;")
    assert browser.run("return at - left") == pytest.approx(0, abs=0.1)
    browser.wait(both.format("true", "false", "reference"))
    assert "reconstruction" in browser.run("return group.querySelector('[role=status]').textContent")
    # Three quick clicks.
    browser.run("go.click(); go.click(); go.click();")
    browser.wait(both.format("false", "true", "reconstruction"))
    silent = "return a.paused && b.paused && !a.muted && !b.muted && go.textContent == 'Play A/B'"
    browser.run("group.querySelector('.stop').click()")
    browser.wait(silent)
    assert browser.run("return document.querySelectorAll('.hearing').length") == 0
    # The switch starts at the position of the last used player, and ends with Escape or another example.
    browser.run("b.currentTime = 0.5;")
    browser.wait("return !b.seeking")
    browser.run("go.click();")
    browser.wait("return !a.paused && a.currentTime >= 0.5 && a.currentTime < 1.0")
    browser.run("go.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));")
    browser.wait(silent)
    browser.run("go.click();")
    browser.wait("return !a.paused && !b.paused")
    browser.run("return document.querySelector('audio').play()")
    browser.wait(silent)
    assert browser.logs()[1] == []


@needs_chromium
def test_any_run_is_one_button_away(pages, browser):
    browser.open(pages["compare"])
    browser.wait(READY)
    browser.run(
        "window.group = document.querySelector('[data-switch]'); window.p = [...group.querySelectorAll('audio')];"
        "window.one = [...group.querySelectorAll('.one')]; one[2].click();"
    )
    browser.wait("return p.every(a => !a.paused) && p.map(a => a.muted).join() == 'true,true,false'")
    assert browser.run("return one.map(b => b.getAttribute('aria-pressed')).join()") == "false,false,true"
    browser.run("one[0].click()")
    browser.wait("return p.map(a => a.muted).join() == 'false,true,true'")
    browser.run("group.querySelector('.stop').click()")
    browser.wait("return p.every(a => a.paused && !a.muted)")
    assert browser.logs()[1] == []


@needs_chromium
def test_by_keyboard(pages, browser):
    browser.look(360)
    browser.open(pages["hvae"])
    body = browser.driver.find_element("tag name", "body")
    reached = []
    for _ in range(12):
        body.send_keys("\ue004")  # Tab
        reached.append(browser.run("const e = document.activeElement; return [e.tagName, e.textContent.trim()]"))
        body = browser.driver.switch_to.active_element
    assert reached[0] == ["A", "Skip to the results"]
    assert ["A", "Reconstruction"] in reached
    assert "DIV" in [tag for tag, _ in reached], "a table that scrolls is reached"
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"


@needs_chromium
def test_without_scripts(pages):
    with chromium(javascript=False) as plain:
        plain.open(pages["hvae"])
        shown = plain.driver.find_elements("css selector", "audio")
        assert len(shown) >= 20
        assert shown[0].is_displayed()
        assert shown[0].get_attribute("controls")
        assert not any(box.is_displayed() for box in plain.driver.find_elements("css selector", ".switch"))
        assert plain.driver.find_elements("css selector", "img")[0].is_displayed()


@pytest.mark.parametrize("name", ["hvae", "vqvae", "compare"])
def test_what_a_screen_reader_meets(name, pages):
    outline = Outline(pages[name].read_text())
    assert outline.every("html")[0]["lang"] == "en"
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    pairs = zip(outline.headings, outline.headings[1:], strict=False)
    assert all(after <= before + 1 for before, after in pairs)
    players = [player["aria-label"] for player in outline.every("audio")]
    assert len({*players}) == len(players), "each player has a unique label"
    assert all("file" in label or "ample" in label or "nterpolation" in label for label in players)
    assert all(re.search(r"-?\d+ dBFS|\d dB on average", picture["alt"]) for picture in outline.every("img"))
    assert len(outline.every("caption")) == len(outline.every("table")) > 1
    assert {cell["scope"] for cell in outline.every("th")} == {"row", "col"}
    labels = [svg["aria-label"] for svg in outline.every("svg") if svg.get("role") == "img"]
    charts = [label for label in labels if label not in ("Good", "Warning")]
    assert charts
    assert all(re.search(r"\d", label) for label in charts)


@pytest.mark.parametrize("name", ["hvae", "vqvae", "compare"])
def test_names_of_files_are_text(name, pages):
    page = pages[name].read_text()
    assert "<script>alert" not in page
    assert len(Outline(page).every("script")) == 1
    policy = next(tag["content"] for tag in Outline(page).every("meta") if tag.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    assert "unsafe" not in policy
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert not any("style" in attrs for _, attrs in Outline(page).tags), (
        "the content security policy forbids inline styles"
    )


def test_the_evil_recordings_are_on_the_page(pages, runs):
    held_out = [row["path"] for row in json.loads((runs / "hvae/report/metrics.json").read_text())["recordings"]]
    page = pages["hvae"].read_text()
    wanted = {"<": "&lt;script&gt;alert(1)&lt;\u2215script&gt;.wav", "a": "{{ 7*7 }}", "\u202e": r"\u202egnp.wav"}
    marked = [path for path in held_out if path[0] in wanted]
    assert marked, "the seeds of the split have changed: hold out more recordings"
    assert all(wanted[path[0]] in page for path in marked)


def test_the_page_tells_what_the_run_was(pages, runs):
    page = pages["vqvae"].read_text()
    for words in (
        "fingerprint of the training split",
        "other shards than those of this evaluation",
        "Summary",
        "goodput",
        "finished, step 8 of 8",
        "python -m train vqvae --data",
    ):
        assert words in page
    for words in (
        "use of the codes by rank",
        "Temperature 0.7",
        "Interpolation between two recordings",
        "loss/commitment",
    ):
        assert words in page
    assert "Model, data, hardware and software" in page
    audio = runs / "vqvae/report/audio"
    assert {"prior-0.7-4.wav", "interpolation-050.wav", "best-1-reference.wav"} <= {
        file.name for file in audio.iterdir()
    }


def test_another_evaluation_leaves_no_old_sounds(runs):
    audio = runs / "hvae/report/audio"
    (audio / "best-99-reference.wav").touch()
    (audio / "my-own.wav").touch()
    assert run(["evaluate", str(runs / "hvae"), "--examples", "1"]) == 0
    names = {file.name for file in audio.iterdir()}
    assert "my-own.wav" in names
    assert not names & {"best-99-reference.wav", "best-2-reference.wav"}
    (audio / "my-own.wav").unlink()


def summary_of(count: int) -> dict:
    """A summary in the format of metrics.json."""
    row = {"si_sdr": 12.3, "si_sdr_median": 12.0, "stft": 0.5, "mel": 0.4, "mse": 1e-3, "cosine": 0.9}
    return {
        "run": "many",
        "family": "vae",
        "model": "model",
        "data": "data",
        "split": "valid",
        "chunks": count,
        "silent_chunks": 0,
        "reconstruction": row,
        "floors": {"silence": dict.fromkeys(row)},
        "latents": [{"active_units": 1.0, "kl_nats_per_second": 10.0}],
        "levels": [],
        "recordings": [{"path": f"file-{i}.wav", "chunks": 1, **row} for i in range(count)],
    }


def test_a_run_with_nothing_to_show_has_a_page(tmp_path):
    """Only silence was held out, and nothing was logged: the page has no examples."""
    summary = summary_of(1)
    summary |= {"silent_chunks": 1, "reconstruction": {**summary["reconstruction"], "si_sdr": None, "cosine": None}}
    write_page(tmp_path / "index.html", Page(summary, [], [], RATE))
    page = (tmp_path / "index.html").read_text()
    assert "— dB" in page
    assert 'id="examples"' not in page
    assert not Outline(page).every("audio")


@needs_chromium
def test_five_hundred_examples_stay_small(tmp_path, browser, monkeypatch):
    """Tones in noise, the worst case for compression. Ten pairs are encoded and reused."""
    real = page_parts.example_view
    shown = {}

    def example_view(example, rate, forms, ready):
        key = (example.place % 10, ready)
        if key not in shown:
            shown[key] = real(example, rate, forms, ready)
        return dataclasses.replace(shown[key], title=example.file)

    monkeypatch.setattr(page_parts, "example_view", example_view)
    rng = np.random.default_rng(0)
    measures = {"si_sdr": 10.0, "stft": 0.5, "mel": 0.4}
    tone = np.resize(tune(1.0, 1), 22050).astype(np.float32)
    examples = []
    pairs = tone + rng.normal(0, 0.02, (10, 2, 22050)).astype(np.float32)
    for i in range(500):
        kind = ("best", "median", "worst")[i % 3]
        place = i // 3 + 1
        examples.append(Example(f"{kind}-{place}", kind, place, f"file-{i}.wav", 0.0, *pairs[place % 10], measures))
    page = tmp_path / "index.html"
    write_page(page, Page(summary_of(500), examples, [], 22050))
    assert page.stat().st_size < 30e6
    assert "Ogg Vorbis" in page.read_text()
    browser.look(1280)
    browser.open(page)
    browser.wait("return [...document.querySelectorAll('audio[preload=metadata]')].every(a => a.duration)")
    assert browser.run("return document.querySelectorAll('audio').length") == 1000
    # Players in folded sections work too.
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; });")
    browser.run("window.last = [...document.querySelectorAll('audio')].pop(); last.scrollIntoView();")
    # Some versions of Chromium count the block with which Vorbis begins.
    browser.wait("return Math.abs(last.duration - 1.0) < 0.03", seconds=20)
    browser.run("return last.play()")
    browser.wait("return last.currentTime > 0")
    assert browser.logs()[1] == []
