"""Run the machine's own tools and say what they said when they fail."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from lab.errors import LabError


def run(argv: Sequence[str], text: str | None = None, timeout_s: float = 60.0) -> str:
    """Run a tool to its end and return what it printed.

    Parameters
    ----------
    text : str, optional
        Given to the tool on its standard input.

    Raises
    ------
    LabError
        The tool is missing, failed or took longer than `timeout_s`; with its own words.
    """
    try:
        done = subprocess.run(
            argv,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{shlex.join(argv)}: no end after {timeout_s:g} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-2000:]
        raise LabError(f"{shlex.join(argv)}: exit {done.returncode}: {said}")
    return done.stdout
