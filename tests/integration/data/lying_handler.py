"""A FastCGI responder that claims to multiplex: it `refuses` a second open request, or `swaps` ids."""

from __future__ import annotations

import struct
import sys

from fcgi_handlers import counters, registry
from fcgi_handlers.models import asyncio as honest

BEGIN_REQUEST, END_REQUEST, CANT_MPX_CONN = 1, 3, 1


class Refuses(honest.Responder):
    def _take(self, kind: int, request_id: int, content: bytes) -> None:
        if kind == BEGIN_REQUEST and self._requests:
            self._write(END_REQUEST, request_id, struct.pack("!IB3x", 0, CANT_MPX_CONN))
        else:
            super()._take(kind, request_id, content)


class Swaps(honest.Responder):
    def _write(self, kind: int, request_id: int, content: bytes) -> None:
        super()._write(kind, request_id % 4 + 1 if request_id else 0, content)


honest.Responder = {"refuses": Refuses, "swaps": Swaps}[sys.argv[1]]
honest.serve(registry.load_workload("hello"), lambda: counters.shared(sys.argv[2]))
