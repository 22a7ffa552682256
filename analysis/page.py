"""The page: findings turned into the context of the template, then into HTML and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Value:
    """One table cell: what is shown, what it is sorted by, and whether it is a number."""

    text: str
    sort: str
    number: bool = False


@dataclass(frozen=True)
class Table:
    """A table ready for the template.

    Parameters
    ----------
    identifier, title, note : str
        ``identifier`` is the anchor; ``note`` may be empty.
    columns : sequence of str
        Headings, with units.
    rows : sequence of sequence of Value
        One a row.
    """

    identifier: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """One figure on the page; ``source`` is a data URI."""

    name: str
    title: str
    alt: str
    source: str


def value(content: Any, form: str = "") -> Value:
    """Return a table cell; missing numbers are shown as a dash and sorted last."""
    if content is None or (isinstance(content, float) and math.isnan(content)):
        return Value("—", "")
    if isinstance(content, bool):
        return Value("yes" if content else "no", str(int(content)))
    if isinstance(content, int | float):
        return Value(_not_zero(content, format(content, form)), repr(float(content)), number=True)
    return Value(str(content), str(content))


def _not_zero(content: float, text: str) -> str:
    """Return ``<0.0001`` for a positive number that its format makes ``0.0000``."""
    if content > 0 and re.fullmatch(r"0\.0+", text):
        return f"<{text[:-1]}1"
    return text


def table_of(
    frame: pd.DataFrame, identifier: str, title: str, columns: dict[str, tuple[str, str]], note: str = ""
) -> Table:
    """Return a DataFrame as a table.

    Parameters
    ----------
    frame : DataFrame
        One row a row.
    identifier, title, note : str
        See `Table`.
    columns : dict
        Column of the frame to (heading, format).
    """
    rows = [
        [value(item, columns[name][1]) for name, item in zip(columns, row, strict=True)]
        for row in frame[list(columns)].astype(object).itertuples(index=False)
    ]
    return Table(identifier, title, [heading for heading, _ in columns.values()], rows, note)


def environment() -> jinja2.Environment:
    """Return the template environment: an unknown name is an error, text is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["emphasised"] = emphasised
    return made


_VERDICT_WORDS = re.compile(
    r"\b(GAIN|LOSS|NO DIFFERENCE|INCONCLUSIVE|REAL|NOISE|HOLDS|FAILS|UNDECIDED)\b"
    r"|(recommended \d+)|(run [\w-]+ with \d+ process(?:es)?)"
)
_COMMAND = re.compile(r"`([^`]+)`")


def emphasised(line: str) -> markupsafe.Markup:
    """Return a line as HTML: the verdict itself in bold, commands as code; the rest is escaped."""
    escaped = str(markupsafe.escape(line))
    bold = _VERDICT_WORDS.sub(r"<strong>\g<0></strong>", escaped)
    return markupsafe.Markup(_COMMAND.sub(r"<code>\1</code>", bold))  # noqa: S704 - escaped above


def render_html(context: dict[str, Any]) -> str:
    """Return the self-contained page."""
    return environment().get_template("report.html.j2").render(**context)


def render_markdown(context: dict[str, Any]) -> str:
    """Return the same statements and tables as Markdown."""
    lines = [f"# {context['title']}", ""]
    lines += [f"> **{banner}**\n" for banner in context["banners"]]
    lines += ["## Verdicts", ""]
    for group in context["verdicts"]:
        lines += [f"### {group['title']}", "", *(f"- {line}" for line in group["lines"]), ""]
    for picture in context["pictures"]:
        lines += [f"![{picture.alt}](figures/{picture.name}.png)", ""]
    for table in [*context["tables"], *context["evidence"]]:
        lines += [f"## {table.title}", "", *_markdown_table(table), ""]
    lines += ["## Reproduce", "", "```", *context["commands"], "```", ""]
    return "\n".join(lines)


def _markdown_table(table: Table) -> Iterable[str]:
    if table.note:
        yield f"{table.note}\n"
    if not table.rows:
        yield "None."
        return
    yield "| " + " | ".join(table.columns) + " |"
    yield "|" + " --- |" * len(table.columns)
    for row in table.rows:
        yield "| " + " | ".join(item.text.replace("|", "\\|").replace("\n", " ") for item in row) + " |"
