"""What a handler process counts while it serves, in a memory-mapped file that others may read at any time.

The file holds four unsigned 64-bit numbers that change with every request (`HOT`) and, behind them,
numbers that the process writes only when it is asked with SIGUSR1 (`ASKED`): Linux shows context switches
per thread and forgets those of threads that ended, so only the process itself can tell its total. Last come
numbers that show how requests reach the process (`REGIME`): on how many connections, and how many at once on
one.
"""

# Every handler process starts with this module, and pathlib would be a tenth of its start.
# ruff: noqa: PTH104, PTH118, PTH123

from __future__ import annotations

import mmap
import os
import resource
import signal
import struct
import threading
import time
from types import FrameType
from typing import Callable, Optional, Union

MAGIC = 0x46435357
HOT = struct.Struct("<4Q")  # magic, requests done, in flight, peak in flight
ASKED = struct.Struct("<3Q")  # answers so far, voluntary and involuntary context switches
REGIME = struct.Struct("<3Q")  # connections used, highest request id, most requests open on one
FILE_BYTES = HOT.size + ASKED.size + REGIME.size

_DONE, _IN_FLIGHT, _PEAK = 1, 2, 3
_ANSWERS, _VOLUNTARY, _INVOLUNTARY = 4, 5, 6
_CONNECTIONS, _HIGHEST_ID, _PEAK_IDS = 7, 8, 9


class Counters:
    """Requests done, in flight and at most in flight in this process.

    The lock makes the numbers exact under threads, also where no interpreter lock does so.

    Parameters
    ----------
    memory
        At least `FILE_BYTES` bytes, writable.
    """

    def __init__(self, memory: Union[bytearray, mmap.mmap]) -> None:
        self._numbers = memoryview(memory).cast("Q")
        self._numbers[0] = MAGIC
        self._lock = threading.Lock()
        self._highest_id = 0
        self._peak_ids = 0

    def enter(self, request_id: int = 1, open_ids: int = 1, opens_connection: bool = True) -> None:
        """Note that a request begins.

        Parameters
        ----------
        request_id
            Its id on its connection.
        open_ids
            Requests open on that connection now, this one included.
        opens_connection
            Whether it is the first one there.
        """
        numbers = self._numbers
        with self._lock:
            numbers[_IN_FLIGHT] = in_flight = numbers[_IN_FLIGHT] + 1
            if in_flight > numbers[_PEAK]:  # noqa: PLR1730 - most requests then store nothing
                numbers[_PEAK] = in_flight
            if opens_connection:
                numbers[_CONNECTIONS] += 1
            if request_id > self._highest_id:
                self._highest_id = numbers[_HIGHEST_ID] = request_id
            if open_ids > self._peak_ids:
                self._peak_ids = numbers[_PEAK_IDS] = open_ids

    def leave(self, done: int) -> None:
        """Note that a request ends; `done` is 1 when its response was handed over, else 0."""
        numbers = self._numbers
        with self._lock:
            numbers[_IN_FLIGHT] -= 1
            numbers[_DONE] += done

    def idle_since(self) -> Callable[[], float]:
        """Return a function that tells for how many seconds no request has been in work, from now on."""
        last_done, last_work_s = self._numbers[_DONE], time.monotonic()

        def idle_s() -> float:
            nonlocal last_done, last_work_s
            done = self._numbers[_DONE]
            if done != last_done or self._numbers[_IN_FLIGHT]:
                last_done, last_work_s = done, time.monotonic()
            return time.monotonic() - last_work_s

        return idle_s

    def answer_usage(self, signum: int, frame: Optional[FrameType]) -> None:
        """Write this process's context switches (a handler for SIGUSR1)."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._numbers[_VOLUNTARY] = usage.ru_nvcsw
        self._numbers[_INVOLUNTARY] = usage.ru_nivcsw
        self._numbers[_ANSWERS] += 1


def private() -> Counters:
    """Return counters that nobody else reads."""
    return Counters(bytearray(FILE_BYTES))


def shared(directory: str) -> Counters:
    """Return counters in the file `<directory>/<pid>`, which appears complete and at once.

    Raises
    ------
    OSError
        The directory is missing, or its file system is full.
    """
    path = os.path.join(directory, str(os.getpid()))
    draft = path + ".new"
    with open(draft, "w+b", buffering=0) as file:
        # Real zeros, not a hole: on a full disk a hole would mean SIGBUS at the first request.
        file.write(bytes(FILE_BYTES))
        counters = Counters(mmap.mmap(file.fileno(), FILE_BYTES))
    signal.signal(signal.SIGUSR1, counters.answer_usage)
    os.rename(draft, path)
    return counters
