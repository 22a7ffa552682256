"""A process that is dear to start, and `hello` from then on."""

from __future__ import annotations

from fcgi_handlers.workload import Stdin, Workload, parameterised, response, text

PARAMETERS = ("ms",)
BODY = text(1024)
RESPONSE = response(BODY)


def build(ms: int = 200) -> Workload:
    """Return the workload; `ms` in milliseconds of processor time, as imports take it."""

    def answer(stdin: Stdin) -> bytes:
        return RESPONSE

    name = parameterised("startup", ms)
    return Workload(name=name, url_path=f"/{name}", body=BODY, answer=answer, startup_s=ms / 1e3)
