"""A process that is dear to start, and `hello` from then on."""

from __future__ import annotations

from fcgi_handlers.workload import Stdin, Workload, parameterised, response, spin, text

PARAMETERS = ("ms",)
BODY = text(1024)
RESPONSE = response(BODY)


def build(ms: int = 200) -> Workload:
    """Return the workload; `ms` in milliseconds."""

    def answer(stdin: Stdin) -> bytes:
        return RESPONSE

    def begin() -> None:
        spin(ms / 1e3)

    name = parameterised("startup", ms)
    return Workload(name=name, url_path=f"/{name}", body=BODY, answer=answer, begin=begin)
