"""The ceiling of the FastCGI path: a C program on libfcgi that does nothing but answer (`native/limit.c`).

It sends the bytes of the workload's answer and does none of its work. Provisioning compiles it where libfcgi
is to be had; elsewhere the model is absent.
"""

from __future__ import annotations

import io
import os

from fcgi_handlers.model import Count, Model
from fcgi_handlers.workload import Workload

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "native", "limit")  # noqa: PTH118, PTH120


def serve(workload: Workload, count: Count) -> None:
    """Become the program, which counts by itself."""
    answer = os.memfd_create("answer", 0)  # stays open across the start of the program
    with open(answer, "wb", closefd=False) as file:
        file.write(workload.answer(io.BytesIO(workload.request_body)))
    os.execv(PROGRAM, [PROGRAM, f"/proc/self/fd/{answer}"])  # noqa: S606


def absence() -> str:
    """Say why the program is not there; an empty string where it is."""
    if os.access(PROGRAM, os.X_OK):
        return ""
    return (
        "limit is not compiled here: it needs a C compiler and the headers of libfcgi"
        " (on Debian libfcgi-dev); install them and provision this host again"
    )


MODEL = Model(
    summary="one request at a time, in C (libfcgi): the ceiling of the FastCGI path",
    serve=serve,
    peak_in_process=1,
    multiplexes=False,
    is_ceiling=True,
    absence=absence,
)
