"""Which run is meant."""

from __future__ import annotations

from pathlib import Path

from analysis.errors import RunUnreadable

RESULTS = Path(__file__).resolve().parents[1] / "results"
"""Where `fcgi-sweep run` puts runs unless told otherwise."""


def newest_run(results: Path) -> Path:
    """Return the newest run of a results directory.

    Parameters
    ----------
    results : Path
        The directory that holds runs.

    Returns
    -------
    Path
        Run ids begin with their time, so the last name is the newest run.

    Raises
    ------
    RunUnreadable
        When there is none.
    """
    runs = sorted(path.parent for path in results.glob("*/run.json"))
    if not runs:
        raise RunUnreadable(f"{results}: no run in here; measure one with `fcgi-sweep run EXPERIMENT`")
    return runs[-1]


def find_run(run: str, results: Path) -> Path:
    """Return the directory of a run that is given by its id or its path."""
    return Path(run) if Path(run).is_dir() else results / run
