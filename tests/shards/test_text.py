"""Text from strangers: one line without control characters, formulas, tags and links, which says what it said."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from shards.text import (
    JOINERS,
    for_csv,
    for_markdown,
    given_twice,
    printable,
    printable_lines,
    with_bytes,
    without_bytes,
)

OWNED = "\x1b]0;owned\x07\x1b[31m"
ANY = st.text(
    st.characters(codec=None, exclude_categories=()) | st.sampled_from("\x1b\x9b\r\n\t|<>&[]()`_*\\=+-@:/!~$#")
)
LETTERS = st.text(st.characters(categories=["L", "N", "P", "S"]))
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def is_shown(char: str) -> bool:
    return char.isprintable() or char in JOINERS


@given(ANY)
@example(OWNED)
@example("\u2028\u2029\x85\x0b\u202e\u2066\udc80\x7f\x9b31m")
def test_a_line_of_printable_characters(text):
    line = printable(text)
    assert all(map(is_shown, line))
    assert len(line.splitlines()) <= 1
    assert printable(line) == line
    line.encode()


@given(LETTERS)
@example("Größe, длина, 長さ, طول, می\u200cخواهم, \U0001f469\u200d\U0001f467")
def test_letters_of_all_languages_stay(text):
    assert printable(text) == text


def test_what_escapes_look_like():
    assert printable("\x1b[31m\n\t\u202e\udc80") == r"\x1b[31m\n\t\u202e\udc80"
    assert printable("a\x07\nb", keep="\n") == "a\\x07\nb"
    assert printable(None) == "None"
    assert printable([1, "\x1b"]) == r"[1, '\x1b']"


@given(ANY)
@example(f"error: one\nerror: {OWNED}")
def test_no_line_but_the_first_begins_a_message(text):
    lines = printable_lines(text)
    first, *rest = lines.split("\n")
    assert all(map(is_shown, "".join([first, *rest])))
    assert all(line.startswith("  ") for line in rest)
    assert printable_lines(lines) == lines


@given(ANY | st.builds("{}{}".format, st.sampled_from("=+-@\t\r ＝＋－＠"), ANY))
@example("=HYPERLINK(1)")
@example(" =1+1")
@example("-")
@example("-inf+1")
def test_no_cell_is_a_formula(text):
    cell = for_csv(text)
    assert all(map(is_shown, cell))
    if cell.lstrip()[:1] in tuple("=+-@＝＋－＠"):
        float(cell)
    assert for_csv(cell) == cell
    file = io.StringIO()
    csv.writer(file).writerow([cell, "next"])
    assert [*csv.reader(io.StringIO(file.getvalue()))] == [[cell, "next"]]


@pytest.mark.parametrize("number", ["-1.5", "+3", "-1e-05", "-inf", -2, 0.25])
def test_numbers_stay_numbers(number):
    assert for_csv(number) == str(number)


@given(ANY)
@example("<img src=x onerror=alert(1)>")
@example("[click](javascript:alert) ![x](y) <https://x.y> https://x.y www.x.y a@b.c")
@example("| a | b |\n|---|---|\n| c | `d` |")
@example("__a__ *b* ~~c~~ &lt; \\| a_b_ _")
def test_markdown_shows_the_text_and_nothing_else(text):
    """In a line and in the cell of a table: only text, and all of it."""
    safe = for_markdown(text)
    table = f"| name | value |\n|---|---|\n| ({safe}) | ({safe}) |\n"
    inline = [token for token in MARKDOWN.parse(f"# ({safe})\n\na ({safe})\n\n{table}") if token.type == "inline"]
    assert len(inline) == 6
    assert {child.type for token in inline for child in token.children} == {"text"}
    shown = ["".join(child.content for child in token.children) for token in inline]
    wanted = f"({printable(text)})"
    assert shown == [wanted, f"a {wanted}", "name", "value", wanted, wanted]
    for sign in ("<", ">", "|", "](", "://", "@", "www."):
        assert sign not in safe.lower()


def test_plain_words_look_the_same_in_markdown():
    for text in ("optim.lr", "kl_warmup.shape", "0.001", "peak", "a-b (c), d/e: f"):
        assert for_markdown(text) == text


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["build", "a", "b", "--valid", "0.1", "--valid", "0.2"], "--valid"),
        (["--max-silence", "1", "--max_silence=0.5"], "--max_silence"),
        (["a", "b", "--valid", "0.1", "--test", "0.1"], ""),
        (["a", "a", "--", "--x", "--x"], ""),
    ],
)
def test_a_flag_that_is_given_twice_is_found(words, flag):
    assert given_twice(words) == flag


@pytest.mark.parametrize("word", ["plain", "caf\udce9.wav", "\udc80\udcff", "ü 漢"])
def test_bytes_of_names_pass_a_parser_and_come_back(word):
    hidden = without_bytes(word)
    hidden.encode()
    assert with_bytes([hidden, Path(hidden), 3, None]) == [word, Path(word), 3, None]
