from __future__ import annotations

from pathlib import Path

import pytest
import typer
from synthetic_runs import Recipe, knee_then_decline, write_run
from typer.testing import CliRunner

from analysis import compare
from analysis.dataset import read_run


def _run(results: Path, run_id: str, **changes: object) -> Path:
    settings: dict[str, object] = {"run_id": run_id, "hosts": {"lab-2core": 2}, "blocks": 12}
    return write_run(results, Recipe(**{**settings, **changes}))  # type: ignore[arg-type]


def _slower_multiplexed(cores: int, handler: str, processes: int) -> float:
    return knee_then_decline(cores, handler, processes) * (0.9 if handler == "multiplexed" else 1)


def test_the_same_twice_is_a_tilde_everywhere(tmp_path: Path) -> None:
    first, second = _run(tmp_path, "a", seed=1), _run(tmp_path, "b", seed=2)
    table = compare.compare_runs(read_run(first), read_run(second))
    assert len(table) == 16
    assert table["change"].str.startswith("~").all()
    assert all(": ~ (geomean " in line for line in compare.geometric_means(table))


def test_a_change_is_found_where_it_was_made(tmp_path: Path) -> None:
    first = _run(tmp_path, "a", seed=1)
    second = _run(tmp_path, "b", seed=2, speed=_slower_multiplexed)
    table = compare.compare_runs(read_run(first), read_run(second))
    changed = table[~table["change"].str.startswith("~")]
    assert set(changed["handler"]) == {"multiplexed"}
    assert len(changed) == 8
    assert changed["percent"].between(-15, -6).all()


def test_what_differs_in_the_configuration_is_named(tmp_path: Path) -> None:
    first = _run(tmp_path, "a", seed=1)
    second = _run(tmp_path, "b", seed=2, lighttpd="1.4.85")
    lines = compare.differences(read_run(first), read_run(second))
    assert any("factors.lighttpd" in line and "1.4.85" in line for line in lines)
    assert any(line.startswith("experiment.design.seed: 1 -> 2") for line in lines)


def test_the_command_prints_benchstats_form(tmp_path: Path) -> None:
    _run(tmp_path, "a", seed=1)
    _run(tmp_path, "b", seed=2, speed=_slower_multiplexed)
    app = typer.Typer()
    app.command()(compare.main)
    result = CliRunner().invoke(app, ["a", "b", "--results", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC RUN" in result.output
    assert "lab-2core multiplexed: geomean -1" in result.output or "geomean -9" in result.output
    assert "~ (p=" in result.output


def test_an_unfinished_run_is_told(tmp_path: Path) -> None:
    _run(tmp_path, "a")
    journal = _run(tmp_path, "b") / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-9]))
    app = typer.Typer()
    app.command()(compare.main)
    result = CliRunner().invoke(app, ["a", "b", "--results", str(tmp_path)])
    first, second = result.output.partition("A: ")[2].splitlines()[:2]
    assert first == "a"
    assert second.startswith("B: b, unfinished: ")


def test_runs_without_a_common_cell_are_bad_input(tmp_path: Path) -> None:
    _run(tmp_path, "a")
    _run(tmp_path, "b", hosts={"other": 2})
    app = typer.Typer()
    app.command()(compare.main)
    result = CliRunner().invoke(app, ["a", "b", "--results", str(tmp_path)])
    assert result.exit_code == 2
    assert "share no cell" in result.output


@pytest.mark.parametrize("missing", ["a", "b"])
def test_a_missing_run_is_named(tmp_path: Path, missing: str) -> None:
    _run(tmp_path, "b" if missing == "a" else "a")
    app = typer.Typer()
    app.command()(compare.main)
    result = CliRunner().invoke(app, ["a", "b", "--results", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{missing}/run.json: missing" in result.output
