"""Large responses: the cost of moving bytes out."""

from __future__ import annotations

from fcgi_handlers.workload import Stdin, Workload, parameterised, response, text

PARAMETERS = ("bytes",)


def build(size_bytes: int = 65536) -> Workload:
    """Return the workload; `size_bytes` is the length of every body."""
    body = text(size_bytes)
    whole = response(body)

    def answer(stdin: Stdin) -> bytes:
        return whole

    name = parameterised("body", size_bytes)
    return Workload(name=name, url_path=f"/{name}", body=body, answer=answer)
