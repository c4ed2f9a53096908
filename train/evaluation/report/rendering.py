"""Renders templates: all inserted text is escaped, and the content security policy forbids network access."""

import base64
import hashlib
import math
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from shards.text import printable
from train.evaluation.drawing.pictures import CEILING_DB, FARTHEST_DB, FLOOR_DB
from train.evaluation.drawing.spectrograms import stops

TEMPLATES = resources.files("train.evaluation.report") / "templates"


def cleaned(value: Any) -> Any:
    """Makes text printable, with its newlines; numbers and markup stay as they are."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return printable(value, keep="\n")


def figure(value: Any, digits: int = 3) -> str:
    """A number in `digits` significant digits; a dash where there is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "—"
    # Avoids 1e+03 for 999.9.
    if isinstance(value, int) or abs(float(f"{value:.{digits}g}")) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def allowed(text: str) -> str:
    """The content security policy's source expression for this inline style sheet or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def environment() -> jinja2.Environment:
    """The jinja2 environment of all templates, with their filters and globals."""
    result = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (TEMPLATES / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters["figure"] = figure
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    result.globals |= {
        "style": Markup(style),
        "script": Markup(script),
        "policy": "default-src 'none'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {allowed(style)}; script-src {allowed(script)}",
        "colours": {name: stops(name) for name in ("level", "difference")},
        "decibels": {"floor": f"{FLOOR_DB:.0f}", "ceiling": f"{CEILING_DB:.0f}", "farthest": f"{FARTHEST_DB:.0f}"},
    }
    return result


def render(template: str, **content: Any) -> str:
    """The rendered page, without characters that UTF-8 cannot encode."""
    text = environment().get_template(template).render(**content)
    return text.encode("utf-8", "backslashreplace").decode()
