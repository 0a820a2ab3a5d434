"""Rendering of the templates: text of a run cannot break out of the page or the card, and shows no secrets."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cluster.redaction import redact

_OPTIONS: dict[str, Any] = {
    "loader": FileSystemLoader(Path(__file__).with_name("templates")),
    "undefined": StrictUndefined,
    "trim_blocks": True,
    "lstrip_blocks": True,
}


class Markdown(str):
    """A text that is Markdown already, which a card takes as it is."""


def render_html(template: str, **values: Any) -> str:
    """A page from a template; every text among the values is escaped."""
    return _HTML.get_template(template).render(values)


def render_markdown(template: str, **values: Any) -> str:
    """Markdown from a template; every text among the values is on one line, and taken literally."""
    return _MARKDOWN.get_template(template).render(values)


def literal(text: object) -> Markdown:
    """The text on one line with the signs of Markdown and HTML taken literally."""
    return Markdown(re.sub(r"([\\`*_{}\[\]<>#|$~&])", r"\\\1", one_line(str(text))))


def fenced(text: str, language: str = "") -> Markdown:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{redact(text)}\n{fence}")


def one_line(text: str) -> str:
    """The text with single blanks in the place of all white space."""
    return " ".join(text.split())


def _without_secrets(value: Any) -> Any:
    """What HTML prints, before it is escaped: a secret may hold signs that escaping changes."""
    return redact(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _literal(value: Any) -> Any:
    return value if isinstance(value, Markdown) else literal(redact(str(value)))


_HTML = Environment(autoescape=True, finalize=_without_secrets, **_OPTIONS)
_MARKDOWN = Environment(autoescape=False, finalize=_literal, **_OPTIONS)  # Markdown has rules of its own
