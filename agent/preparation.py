"""What must hold before a server is started, each with a reason that names the next step."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Optional, Union

from agent import cleaning, manifest, marked, procfs
from agent.dialogue import LoadRequest
from agent.problems import TrialProblem
from agent.records import LoadSpec, Orphan, TrialRequest

_SOCKET_PATH_BYTES = 100
_ROOM_BYTES = 4 * 1024 * 1024
_BODY_TIMEOUT_S = 10.0
_REQUEST_BODY = "request.body"


def require_provisioned(prefix: str, work_dir: Path, programs: Mapping[str, str]) -> None:
    """Raise TrialProblem unless the programs are there and the work directory is where it should be.

    `programs` maps what a program is to where it is.
    """
    for what, path in programs.items():
        if not os.access(path, os.X_OK):
            raise TrialProblem("not_provisioned", f"{what} is not at {path}; provision this host")
    run_dir = Path(prefix) / "run"
    if work_dir.parent != run_dir:
        raise TrialProblem("internal", f"the work directory {work_dir} is not in {run_dir}")
    if len(os.fsencode(work_dir / "sock" / "handler-1000")) > _SOCKET_PATH_BYTES:
        raise TrialProblem("internal", f"{work_dir} is too long a path for sockets; choose a shorter prefix")


def remove_leftovers(prefix: Path) -> tuple[Orphan, ...]:
    """Kill what an earlier trial left and remove its directories; return the processes that were killed."""
    orphans = tuple(marked.kill(str(prefix)))
    marked.reap()
    still = marked.find(str(prefix))
    if still:
        raise TrialProblem(
            "not_ready",
            f"process {still[0].pid} ({still[0].cmd}) of an earlier trial cannot be killed; reboot this host",
        )
    cleaning.remove_work_dirs(prefix / "run")
    return orphans


def make_work_dir(work_dir: Path) -> None:
    """Make the work directory; OSError with ENOSPC when there is no room for what goes there."""
    if shutil.disk_usage(work_dir.parent).free < _ROOM_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    work_dir.mkdir(mode=0o700)


def make_server_directories(work_dir: Path) -> None:
    """Make the directories of handler sockets, handler numbers and static files."""
    for directory in (work_dir / "sock", work_dir / "stats", work_dir / "static"):
        directory.mkdir(mode=0o700)


def request_file(work_dir: Path, load: LoadSpec) -> Optional[Path]:
    """Return the file with the body of every request; None where they have none."""
    return work_dir / _REQUEST_BODY if load.request_bytes else None


def request_body(work_dir: Path, load: LoadSpec) -> bytes:
    """Return the body of every request, which was written before."""
    file = request_file(work_dir, load)
    return b"" if file is None else file.read_bytes()


def write_request_body(request: Union[TrialRequest, LoadRequest], environment: Mapping[str, str]) -> None:
    """Write the body of every request, where they have one."""
    file = request_file(Path(request.work_dir), request.load)
    if file is not None:
        file.write_bytes(_from_handlers(request, environment, "request"))
        if file.stat().st_size != request.load.request_bytes:
            raise TrialProblem(
                "not_provisioned",
                f"the handlers below {request.prefix} send {file.stat().st_size} bytes to {request.url_path},"
                f" {request.load.request_bytes} were announced; provision this host",
            )


def write_server_files(request: TrialRequest, environment: Mapping[str, str]) -> None:
    """Write all that lighttpd is to find."""
    work_dir = Path(request.work_dir)
    make_server_directories(work_dir)
    write_request_body(request, environment)
    (work_dir / "lighttpd.conf").write_text(request.lighttpd_conf, encoding="utf-8")
    if request.processes == 0:
        file = work_dir / "static" / request.url_path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_from_handlers(request, environment, "body"))


def require_free_port(address: str, port: int) -> None:
    """Raise TrialProblem, naming who has it, unless the port is free."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((address, port))
            candidate.listen()
        except OSError as error:
            reason = f"cannot listen on {address} port {port}: {error.strerror}"
            if error.errno == errno.EADDRINUSE:
                owner = procfs.listener_owner(port)
                reason = f"port {port} on {address} is in use by {owner}; end it or choose another port"
            if error.errno == errno.EADDRNOTAVAIL:
                reason = f"{address} is no address of this host; set fcgi_sweep_address to one of its own"
            raise TrialProblem("not_ready", reason) from error


def _from_handlers(
    request: Union[TrialRequest, LoadRequest], environment: Mapping[str, str], what: str
) -> bytes:
    """Ask the provisioned handlers for the `body` of a response of the workload, or of a `request`."""
    import subprocess  # noqa: PLC0415 - the other trials start sooner without it

    try:
        found = manifest.read(Path(request.prefix)) or {}
        command, needed = manifest.handlers_command(found, what, request.url_path.strip("/"))
        return subprocess.run(
            command,
            env={**environment, **needed},
            cwd=manifest.handlers_directory(found),
            capture_output=True,
            timeout=_BODY_TIMEOUT_S,
            check=True,
        ).stdout
    except (LookupError, OSError, subprocess.SubprocessError) as error:
        reason = f"no handlers below {request.prefix} ({error}); provision this host"
        raise TrialProblem("not_provisioned", reason) from error
