"""Processor time for every request, spent in Python: what computes."""

from __future__ import annotations

from fcgi_handlers.workload import Stdin, Workload, parameterised, response, spin, text

PARAMETERS = ("us",)
BODY = text(1024)
RESPONSE = response(BODY)


def build(us: int = 500) -> Workload:
    """Return the workload; `us` in microseconds of processor time."""

    def answer(stdin: Stdin) -> bytes:
        spin(us / 1e6)
        return RESPONSE

    name = parameterised("cpu", us)
    return Workload(name=name, url_path=f"/{name}", body=BODY, answer=answer)
