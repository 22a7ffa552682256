from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from analysis.choice import newest_run
from analysis.curves import curves_of, trials_of, with_setting
from analysis.dataset import read_run
from analysis.errors import RunUnreadable
from analysis.journal import Reading


@pytest.fixture
def run_copy(two_hosts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_hosts, tmp_path / two_hosts.name))


def test_every_scheduled_trial_of_an_undamaged_run_is_read(two_hosts: Path) -> None:
    run = read_run(two_hosts)
    assert set(run.journal.attempts["trial"]) == set(run.schedule["trial"])
    assert run.journal.damage == ()
    assert run.synthetic


def test_a_torn_last_line_is_counted_and_the_rest_is_kept(run_copy: Path) -> None:
    journal = run_copy / "journal.jsonl"
    whole = len(read_run(run_copy).journal.attempts)
    journal.write_bytes(journal.read_bytes() + b'{"schema":1,"kind":"att')
    run = read_run(run_copy)
    assert len(run.journal.attempts) == whole
    assert [item.reason for item in run.journal.damage] == ["torn last line"]


def test_damaged_lines_are_listed_with_their_line_numbers(run_copy: Path) -> None:
    journal = run_copy / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines()
    lines[2] = "\x00\x00" + lines[2][10:]
    lines[4] = json.dumps({"schema": 7, "kind": "attempt"})
    lines[6] = "[]"
    record = json.loads(lines[8])
    lines[8] = json.dumps({key: record[key] for key in record if key not in ("host", "cell")})
    lines[10] = json.dumps({**json.loads(lines[10]), "status": "valid", "result": None})
    lines[12] = json.dumps({**json.loads(lines[12]), "result": {"counters": [1]}, "status": "invalid"})
    lines[14] = json.dumps({**json.loads(lines[14]), "wall_s": float("nan"), "raw": "µ"}, ensure_ascii=False)
    journal.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = read_run(run_copy)
    assert {item.line: item.reason for item in run.journal.damage} == {
        3: "not JSON",
        5: "schema 7, not 1",
        7: "not a journal record",
        9: "without host, cell",
        11: "a valid attempt without a goodput",
        13: "Expected `object | null`, got `array` - at `$.result.counters`",
    }
    assert len(run.journal.attempts) == len(lines) - 6


def test_bytes_that_are_no_utf8_damage_one_line_only(run_copy: Path) -> None:
    journal = run_copy / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = b"\xff\xfe" + lines[1]
    lines[4] = lines[4].replace(b'"unit":"share"', b'"unit":"sh\xffre"')
    journal.write_bytes(b"".join(lines))
    damage = read_run(run_copy).journal.damage
    assert [(item.line, item.reason) for item in damage] == [(2, "not JSON"), (5, "not JSON")]


def test_the_journal_of_another_run_is_refused_by_name(run_copy: Path) -> None:
    schedule = run_copy / "schedule.json"
    document = json.loads(schedule.read_text(encoding="utf-8"))
    for trial in document["trials"]:
        trial["trial"] = "other-" + trial["trial"]
    schedule.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RunUnreadable, match="belongs to another run"):
        read_run(run_copy)


def test_a_journal_read_in_parts_is_the_same_as_in_one_piece(run_copy: Path) -> None:
    journal = run_copy / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = b"no record\n"
    lines[-4] = lines[-4].replace(b'"trial":"', b'"trial":"other-', 1)
    journal.write_bytes(b"".join(lines) + b'{"torn')
    scheduled = read_run(run_copy).schedule["trial"]
    whole = Reading(journal).journal(scheduled)
    with ThreadPoolExecutor(3) as pool:
        parts = Reading(journal, pool, part_bytes=10_000).journal(scheduled)
    pd.testing.assert_frame_equal(parts.attempts, whole.attempts)
    assert [item.line for item in whole.damage] == [4, len(lines) - 3, len(lines) + 1]
    assert (parts.damage, parts.sha256) == (whole.damage, whole.sha256)


def test_a_newer_schema_is_refused_with_the_remedy(run_copy: Path) -> None:
    meta = json.loads((run_copy / "run.json").read_text(encoding="utf-8"))
    (run_copy / "run.json").write_text(json.dumps({**meta, "schema": 2}), encoding="utf-8")
    with pytest.raises(RunUnreadable, match="schema 2, but this version reads schema 1"):
        read_run(run_copy)


def test_a_directory_without_runs_says_how_to_measure_one(tmp_path: Path) -> None:
    with pytest.raises(RunUnreadable, match="fcgi-sweep run"):
        newest_run(tmp_path)


def test_a_trial_that_was_tried_again_counts_once_with_its_valid_attempt(two_hosts: Path) -> None:
    attempts = read_run(two_hosts).journal.attempts
    repeated = attempts[attempts["attempt"] == 2]["trial"]
    assert len(repeated) > 0
    trials = trials_of(attempts)
    assert trials["trial"].is_unique
    assert (trials.set_index("trial").loc[repeated, "status"] == "valid").all()


def test_rows_of_one_server_start_are_one_value(two_hosts: Path) -> None:
    trials = with_setting(trials_of(read_run(two_hosts).journal.attempts))
    many = pd.concat([trials] * 100)
    for one, hundred in zip(curves_of(trials), curves_of(many), strict=True):
        assert one.rps == pytest.approx(hundred.rps, rel=1e-12)
        assert (one.n == hundred.n).all()
