"""A wait and then processor time for every request: what most web applications do."""

from __future__ import annotations

from fcgi_handlers.workload import Stdin, Workload, parameterised, response, spin, text

PARAMETERS = ("us", "ms")
BODY = text(1024)
RESPONSE = response(BODY)


def build(us: int = 500, ms: int = 5) -> Workload:
    """Return the workload; `us` in microseconds of processor time, `ms` in milliseconds."""

    def answer(stdin: Stdin) -> bytes:
        spin(us / 1e6)
        return RESPONSE

    name = parameterised("mixed", us, ms)
    return Workload(name=name, url_path=f"/{name}", body=BODY, answer=answer, wait_s=ms / 1e3)
