"""What the doctor wants to know of a host, found out there by the host's own Python.

This file travels to the host as text and runs alone: standard library only, Python 3.9 or later. It changes
nothing. Usage: survey.py PREFIX PORT; prints one JSON line.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
VERSION_TIMEOUT_S = 10.0


def main(arguments: list[str]) -> int:
    """Print the survey of this host."""
    prefix, port = Path(arguments[0]).expanduser(), int(arguments[1])
    existing = next(path for path in (prefix, *prefix.parents) if path.exists())
    print(
        json.dumps(
            {
                "prefix": str(prefix),
                "not_writable": not_writable([existing, prefix / "run"]),
                "disk_free_bytes": shutil.disk_usage(existing).free,
                "port_problem": port_problem(port),
                "broken_programs": broken_programs(prefix),
                "boot_id": BOOT_ID.read_text().strip() if BOOT_ID.exists() else None,
            }
        )
    )
    return 0


def not_writable(directories: list[Path]) -> str | None:
    """Tell which existing directory this user may not write to, and whose it is; None if there is none."""
    for directory in directories:
        if directory.exists() and not os.access(directory, os.W_OK | os.X_OK):
            return f"{directory} belongs to {user_name(directory.stat().st_uid)}"
    return None


def user_name(uid: int) -> str:
    """Return the name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def port_problem(port: int) -> str | None:
    """Tell why no server can listen on a TCP port, on whatever address; None if one can."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", port))
        except OSError as error:
            return "in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return None


def broken_programs(prefix: Path) -> list[str]:
    """Tell which programs of the manifest do not run, and why."""
    try:
        manifest = json.loads((prefix / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    commands = [[tool["path"]] for tool in manifest["load_generators"].values()]
    commands += [[build["path"], "-v"] for build in manifest["lighttpd"]]
    commands += [[python["path"], "-c", "import flup"] for python in manifest["python"]]
    return [f"{command[0]} ({problem})" for command in commands for problem in [why_not(command)] if problem]


def why_not(command: list[str]) -> str | None:
    """Tell why a program does not run; None if it does. One without arguments is only looked at."""
    if not os.access(command[0], os.X_OK):
        return "cannot be executed" if Path(command[0]).exists() else "is not there"
    if len(command) == 1:
        return None
    try:
        done: Any = subprocess.run(
            command, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return None if done.returncode == 0 else str(last[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
