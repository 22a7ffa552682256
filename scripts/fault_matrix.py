#!/usr/bin/env python3
"""Break real hosts by tests/integration/test_controller_faults.py; write what came of it into docs/.

With the name of a file it runs no test: the file is what they wrote, all of them having passed, to the file
that FCGI_SWEEP_FAULT_MATRIX named.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- fault matrix: begin -->", "<!-- fault matrix: end -->"
SAID_CHARACTERS = 300
COLUMNS = (
    "fault (the test's name)",
    "what the controller recorded",
    "longest attempt",
    "left on the host",
    "measured by `resume`",
    "missing in the end",
)


def table(rows: list[dict[str, object]]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for row in rows:
        name = str(row["test"]).removeprefix("test_").replace("_", " ")
        said = str(row["said"] or _nothing_said(row)).replace("|", "\\|").replace("\n", " ")
        longest = "-" if row["longest_attempt_s"] is None else f"{row['longest_attempt_s']:.1f} s"
        left = "nothing" if not row["left"] else f"{row['left']}"
        short = said if len(said) <= SAID_CHARACTERS else said[:SAID_CHARACTERS] + " …"
        lines.append(_line([name, short, longest, left, row["measured_by_resume"], row["missing"]]))
    return "".join(lines)


def _nothing_said(row: Mapping[str, object]) -> str:
    return "no attempt failed" if row["attempts"] else "no attempt was made"


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |\n"


def run_tests() -> list[dict[str, object]] | None:
    """Return a row for each test; None if one of them failed."""
    with tempfile.TemporaryDirectory() as directory:
        rows = Path(directory) / "rows.jsonl"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/integration/test_controller_faults.py"],
            cwd=ROOT,
            env={**os.environ, "FCGI_SWEEP_FAULT_MATRIX": str(rows)},
            check=False,
        )
        return read_rows(rows) if done.returncode == 0 else None


def read_rows(path: Path) -> list[dict[str, object]]:
    """Return the rows that tests wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def main(arguments: Sequence[str]) -> int:
    """Write the table, unless a test failed."""
    found = read_rows(Path(arguments[0])) if arguments else run_tests()
    if found is None:
        return 1
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(found)}{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
