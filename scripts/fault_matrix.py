#!/usr/bin/env python3
"""Break real hosts by tests/integration/test_controller_faults.py; write what came of it into docs/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- fault matrix: begin -->", "<!-- fault matrix: end -->"
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
        said = str(row["said"] or "no attempt was made").replace("|", "\\|").replace("\n", " ")
        longest = "-" if row["longest_attempt_s"] is None else f"{row['longest_attempt_s']:.1f} s"
        left = "nothing" if not row["left"] else f"{row['left']}"
        lines.append(_line([name, said[:260], longest, left, row["measured_by_resume"], row["missing"]]))
    return "".join(lines)


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |\n"


def main() -> int:
    """Run the tests; write the table only if all of them passed."""
    with tempfile.TemporaryDirectory() as directory:
        rows = Path(directory) / "rows.jsonl"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/integration/test_controller_faults.py"],
            cwd=ROOT,
            env={**os.environ, "FCGI_SWEEP_FAULT_MATRIX": str(rows)},
            check=False,
        )
        if done.returncode != 0:
            return done.returncode
        found = [json.loads(line) for line in rows.read_text().splitlines()]
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(found)}{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
