"""`python -m analysis.report [RUN]`: the report of a run, from its directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.choice import RESULTS, find_run, newest_run
from analysis.errors import AnalysisError
from analysis.workers import workers

if TYPE_CHECKING:
    from analysis.writing import Written


def write_report(directory: Path, output: Path | None = None, *, processes: int | None = None) -> Written:
    """Read a run and write its report.

    Parameters
    ----------
    directory : Path
        ``results/<run_id>``.
    output : Path, optional
        Where to; ``<directory>/report`` by default. Files of an older report are replaced.
    processes : int, optional
        Processes that share the work, see `workers.workers`. The files do not depend on it.

    Returns
    -------
    Written
        The page and its statements.

    Raises
    ------
    AnalysisError
        When the directory cannot be read as a run.
    """
    with workers(directory / "journal.jsonl", processes) as pool:
        # only now: the other processes load the same libraries, which takes seconds, side by side with this
        from analysis.writing import written_report  # noqa: PLC0415

        return written_report(directory, output or directory / "report", pool)


def main(
    run: Annotated[str | None, typer.Argument(help="Run id or directory; default: the newest run.")] = None,
    results: Annotated[Path, typer.Option(help="The directory that holds runs.")] = RESULTS,
    output: Annotated[Path | None, typer.Option(help="Where to write; default: <run>/report.")] = None,
) -> None:
    """Write the report of a run and print its verdicts."""
    try:
        directory = newest_run(results) if run is None else find_run(run, results)
        written = write_report(directory, output)
    except AnalysisError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    for line in written.lines:
        typer.echo(line)
    typer.echo(f"Report: {written.index}")


if __name__ == "__main__":
    typer.run(main)
