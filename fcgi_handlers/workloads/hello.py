"""The least work a handler can do: the same 1024 bytes for every request."""

from __future__ import annotations

from fcgi_handlers.workload import Stdin, Workload, response, text

PARAMETERS = ()
BODY = text(1024)
RESPONSE = response(BODY)


def answer(stdin: Stdin) -> bytes:
    """Return the fixed response."""
    return RESPONSE


def build() -> Workload:
    """Return the workload."""
    return Workload(name="hello", url_path="/hello", body=BODY, answer=answer)
