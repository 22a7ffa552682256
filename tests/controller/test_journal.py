from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from controller.errors import JournalError
from controller.journal import DiskFull, Journal, read_journal


def record(number: int) -> dict[str, object]:
    return {"kind": "attempt", "trial": f"t{number}", "text": "ü" * 20}


def test_records_come_back_in_order_with_their_schema(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for number in range(3):
            journal.append(record(number))
    assert [r["trial"] for r in read_journal(path).records] == ["t0", "t1", "t2"]
    assert {r["schema"] for r in read_journal(path).records} == {1}


def test_a_reopened_journal_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for number in range(2):
        with Journal(path) as journal:
            journal.append(record(number))
    before = path.read_bytes()
    with Journal(path) as journal:
        journal.append(record(2))
        assert len(journal.records) == 3
    assert path.read_bytes().startswith(before)


def test_a_torn_tail_is_cut_off_wherever_it_was_torn_and_the_repair_recorded(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(record(0))
        journal.append(record(1))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert len(read_journal(path).records) == 1
        with Journal(path) as journal:
            kinds = [r["kind"] for r in journal.records]
            assert kinds == ["attempt", "repair"]
            assert journal.records[1]["dropped_bytes"] == cut - first
        assert len(read_journal(path).records) == 2
        assert read_journal(path).tail == b""


def test_a_record_that_lacks_only_its_line_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(record(0))
        journal.append(record(1))
    path.write_bytes(path.read_bytes()[:-1])
    with Journal(path) as journal:
        assert [r.get("trial") for r in journal.records] == ["t0", "t1", None]
        assert journal.records[2]["dropped_bytes"] == 0
    assert len(read_journal(path).records) == 3


def test_a_broken_line_in_the_middle_is_named_not_repaired(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"kind": "attempt"}\nhello\n{"kind": "attempt"}\n')
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"journal\.jsonl:2: is no journal record"):
        Journal(path)
    assert path.read_bytes() == before


def test_threads_never_mix_their_records(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        threads = [
            threading.Thread(target=lambda k=k: [journal.append(record(k * 10 + i)) for i in range(10)])  # type: ignore[misc]
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {r["trial"] for r in read_journal(path).records} == {f"t{n}" for n in range(40)}


def test_on_a_full_disk_the_record_at_hand_is_saved_and_the_run_stops_with_one_message(
    small_disk: Path,
) -> None:
    path = small_disk.path / "journal.jsonl"
    journal = Journal(path)
    journal.append(record(0))
    small_disk.fill()
    with pytest.raises(
        DiskFull, match=r"No space left.*records are safe on disk.*room kept for it.*free some space"
    ):
        for number in range(1, 1000):
            journal.append(record(number))
    journal.close()
    numbers = [int(str(r["trial"])[1:]) for r in read_journal(path).records]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 2
    small_disk.free()
    with Journal(path) as again:
        again.append(record(len(numbers)))
        assert "repair" not in {r["kind"] for r in again.records}


def test_a_run_that_finds_no_room_does_not_begin(small_disk: Any) -> None:
    small_disk.fill()
    with pytest.raises(JournalError, match="no room for 1 MiB"):
        Journal(small_disk.path / "journal.jsonl")


def test_a_journal_line_is_json_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append({"kind": "attempt", "reason": "two\nlines \u2028 and a separator"})
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line)["reason"] == "two\nlines \u2028 and a separator"


def test_what_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append({"kind": "attempt", "reason": json.loads(r'"in use by \udcff"')})
    assert read_journal(path).records[0]["reason"] == "in use by ?"
