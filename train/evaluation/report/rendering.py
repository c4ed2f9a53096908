"""Templates to pages: everything that is put in is escaped, and the browser is told to fetch nothing."""

import base64
import hashlib
import math
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from train.evaluation.drawing.pictures import CEILING_DB, FARTHEST_DB, FLOOR_DB
from train.evaluation.drawing.spectrograms import stops

TEMPLATES = resources.files("train.evaluation.report") / "templates"

# Not printable to Python: line ends, and the joiners of emoji and of Persian and Indic names.
PLAIN = "\n\u200c\u200d"


def printable(value: Any) -> Any:
    """File names need be neither UTF-8 nor free of what turns text around: such characters as their code."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if c.isprintable() or c in PLAIN else ascii(c)[1:-1] for c in value)


def figure(value: Any, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "—"
    # 999.9 is 1,000 in three digits, not 1e+03.
    if isinstance(value, int) or abs(float(f"{value:.{digits}g}")) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def allowed(text: str) -> str:
    """The source expression that allows just this inline style sheet or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def environment() -> jinja2.Environment:
    """The templates' surroundings."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (TEMPLATES / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["figure"] = figure
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    made.globals |= {
        "style": Markup(style),
        "script": Markup(script),
        "policy": "default-src 'none'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {allowed(style)}; script-src {allowed(script)}",
        "colours": {name: stops(name) for name in ("level", "difference")},
        "decibels": {"floor": f"{FLOOR_DB:.0f}", "ceiling": f"{CEILING_DB:.0f}", "farthest": f"{FARTHEST_DB:.0f}"},
    }
    return made


def render(template: str, **content: Any) -> str:
    """The page, as text that UTF-8 can hold."""
    text = environment().get_template(template).render(**content)
    return text.encode("utf-8", "backslashreplace").decode()
