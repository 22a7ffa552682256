"""Command line: `python -m fcgi_handlers MODEL WORKLOAD`, `… describe`, `… body`, `… request WORKLOAD`.

The first form serves the FastCGI socket on descriptor 0, as lighttpd passes it, until SIGTERM. Where
FCGI_SWEEP_STATS names a directory, the process counts its requests in the file `<directory>/<pid>`.

A workload may have parameters, whole numbers in brackets: `cpu(500)` uses 500 microseconds of processor time
for a request; `cpu` alone stands for its default.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from functools import partial

from fcgi_handlers import counters, registry
from fcgi_handlers.workload import spin

USAGE = (
    "usage: python -m fcgi_handlers MODEL WORKLOAD | describe [WORKLOAD ...]"
    " | body WORKLOAD | request WORKLOAD"
)


class CannotServe(Exception):
    """A model that cannot serve as it was started."""


def describe(asked: Sequence[str] = ()) -> dict[str, list[dict[str, object]]]:
    """Return what this package offers here: each model's promises, each workload's request and response.

    Models that cannot run here stand under `absent`, with the reason. Workloads are described with their
    defaults under their bare names, and those in `asked` under the names given there, such as `cpu(500)`;
    what this package does not know is left out.
    """
    models: list[dict[str, object]] = []
    absent: list[dict[str, object]] = []
    for name in registry.model_names():
        model = registry.load_model(name)
        if reason := model.absence():
            absent.append({"name": name, "reason": reason})
            continue
        models.append(
            {
                "name": name,
                "peak_in_process": model.peak_in_process,
                "multiplexes": model.multiplexes,
                "shares_socket": model.shares_socket,
                "is_ceiling": model.is_ceiling,
                "summary": model.summary,
            }
        )
    workloads: list[dict[str, object]] = []
    for name in dict.fromkeys([*registry.workload_names(), *asked]):
        try:
            workload = registry.load_workload(name)
        except registry.UnknownName as error:
            print(f"fcgi_handlers: {error}", file=sys.stderr)
            continue
        workloads.append(
            {
                "name": name,
                "url_path": workload.url_path,
                "bytes": len(workload.body),
                "sha256": workload.sha256,
                "request_bytes": len(workload.request_body),
                "startup_s": workload.startup_s,
            }
        )
    return {"models": models, "absent": absent, "workloads": workloads}


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def serve(model_name: str, workload_name: str) -> None:
    """Serve until SIGTERM."""
    model = registry.load_model(model_name)
    workload = registry.load_workload(workload_name)
    if reason := model.absence():
        raise CannotServe(reason)
    if not _is_socket(0):
        raise CannotServe("descriptor 0 is no socket; lighttpd passes the one to serve there")
    if workload.startup_s:
        spin(workload.startup_s)
    stats = os.environ.get("FCGI_SWEEP_STATS")
    model.serve(workload, partial(counters.shared, stats) if stats else counters.private)
    # All is done; the interpreter would take longer to clear up than to serve the last requests.
    sys.stderr.flush()
    os._exit(0)


def main(arguments: list[str]) -> int:
    """Run one command; return the exit status (2: bad arguments)."""
    if arguments[:1] != ["describe"] and len(arguments) != 2:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        if arguments[0] == "describe":
            import json  # noqa: PLC0415 - a process that serves has no use for it

            print(json.dumps(describe(arguments[1:])))
        elif arguments[0] == "body":
            sys.stdout.buffer.write(registry.load_workload(arguments[1]).body)
        elif arguments[0] == "request":
            sys.stdout.buffer.write(registry.load_workload(arguments[1]).request_body)
        else:
            serve(*arguments)
    except (registry.UnknownName, CannotServe) as error:
        print(f"fcgi_handlers: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
