"""Responders that do what a test tells them, over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.wire import protocol as p

Script = Callable[[socket.socket, list[int], int], bool]
"""Answers the requests that have just arrived whole on a connection (its number from 0); False closes it."""


class Responder:
    """Serves connections with a script, each in a thread of its own."""

    def __init__(self, listener: socket.socket, script: Script) -> None:
        self._listener = listener
        self._script = script
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self.connections = 0
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, self.connections))
            self.connections += 1
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        parser = p.RecordParser()
        kept = True
        try:
            while kept and (data := connection.recv(65536)):
                whole = []
                for kind, rid, start, end, _ in parser.feed(data):
                    if kind == p.STDIN and start == end:
                        whole.append(rid)
                kept = not whole or self._script(connection, whole, number)
        except OSError:
            pass
        finally:
            connection.close()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(timeout=5)
            assert not thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[[socket.socket, Script], None]]:
    """Serve a listening socket with a script until the end of the test."""
    started: list[Responder] = []
    yield lambda listener, script: started.append(Responder(listener, script))
    for one in started:
        one.stop()


@pytest.fixture
def responder(tmp_path: Path, serve: Callable[[socket.socket, Script], None]) -> Callable[[Script], str]:
    """Return a function that starts a responder and returns its address."""
    paths = iter(range(100))

    def start(script: Script) -> str:
        path = str(tmp_path / f"{next(paths)}.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(128)
        serve(listener, script)
        return path

    return start
