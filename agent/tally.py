"""The work of all handler processes at a glance: their counters' memory, mapped once, read many times."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agent import handler_stats

_WORK = struct.Struct("<8x2Q")  # the beginning of the layout: magic, done, in flight


@dataclass(frozen=True)
class Work:
    """What all handler processes have done so far, and what they are at."""

    done: int
    in_flight: int


class Tally:
    """What the handler processes of a trial do, cheap enough to be asked many times a second.

    Parameters
    ----------
    directory
        Where they keep their numbers.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, Optional[mmap.mmap]] = {}

    def read(self) -> Work:
        """Return the work done, also by processes that have ended, and the work in hand."""
        for name in os.listdir(self._directory):  # noqa: PTH208 - many times a second during a measurement
            if name not in self._seen:
                self._seen[name] = self._memory(name) if name.isdigit() else None
        found = [_WORK.unpack_from(each) for each in self._seen.values() if each is not None]
        return Work(done=sum(done for done, _ in found), in_flight=sum(in_flight for _, in_flight in found))

    def _memory(self, name: str) -> Optional[mmap.mmap]:
        with (self._directory / name).open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memory if handler_stats.parse(int(name), memory[:]) is not None else None
