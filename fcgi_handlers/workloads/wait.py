"""Time that passes without processor time: what waits for a database or another service."""

from __future__ import annotations

from fcgi_handlers.workload import Stdin, Workload, parameterised, response, text

PARAMETERS = ("ms",)
BODY = text(1024)
RESPONSE = response(BODY)


def build(ms: int = 10) -> Workload:
    """Return the workload; `ms` in milliseconds."""

    def answer(stdin: Stdin) -> bytes:
        return RESPONSE

    name = parameterised("wait", ms)
    return Workload(name=name, url_path=f"/{name}", body=BODY, answer=answer, wait_s=ms / 1e3)
