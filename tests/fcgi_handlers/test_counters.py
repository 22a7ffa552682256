from __future__ import annotations

import os
import signal
import struct
import threading
import time
from pathlib import Path

import pytest

from fcgi_handlers import counters


def test_counts_are_exact_under_threads() -> None:
    memory = bytearray(counters.FILE_BYTES)
    counted = counters.Counters(memory)
    together = threading.Barrier(8)

    def work() -> None:
        counted.enter()
        together.wait()
        counted.leave(1)
        for _ in range(5000):
            counted.enter()
            counted.leave(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    magic, done, in_flight, peak = counters.HOT.unpack_from(memory)
    assert (magic, done, in_flight) == (counters.MAGIC, 8 * 5001, 0)
    assert peak == 8


def test_a_request_that_failed_is_not_done() -> None:
    memory = bytearray(counters.FILE_BYTES)
    counted = counters.Counters(memory)
    counted.enter()
    counted.leave(0)
    assert counters.HOT.unpack_from(memory)[1:3] == (0, 0)


def test_the_regime_shows_in_connections_ids_and_how_many_are_open_on_one() -> None:
    memory = bytearray(counters.FILE_BYTES)
    counted = counters.Counters(memory)
    for _ in range(3):
        counted.enter()
        counted.leave(1)
    regime = counters.HOT.size + counters.ASKED.size
    assert counters.REGIME.unpack_from(memory, regime) == (3, 1, 1)
    counted.enter(1, 1, True)
    counted.enter(4, 2, False)
    counted.enter(2, 3, False)
    assert counters.REGIME.unpack_from(memory, regime) == (4, 4, 3)


@pytest.mark.usefixtures("usr1_restored")
def test_the_shared_file_is_named_after_the_process_and_answers_sigusr1(tmp_path: Path) -> None:
    counted = counters.shared(str(tmp_path))
    counted.enter()
    file = tmp_path / str(os.getpid())
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert counters.HOT.unpack_from(file.read_bytes()) == (counters.MAGIC, 0, 1, 1)
    os.kill(os.getpid(), signal.SIGUSR1)
    answers, voluntary, involuntary = struct.unpack_from("<3Q", file.read_bytes(), counters.HOT.size)
    assert answers == 1
    assert voluntary + involuntary > 0


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        counters.shared(str(tmp_path / "absent"))


def test_idleness_begins_anew_with_every_request() -> None:
    counted = counters.private()
    idle_s = counted.idle_since()
    time.sleep(0.02)
    assert idle_s() >= 0.02
    counted.enter()
    assert idle_s() < 0.02
    time.sleep(0.02)
    assert idle_s() < 0.02
    counted.leave(1)
    assert idle_s() < 0.02
