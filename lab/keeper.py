"""The first process of a host without namespaces: ``python -m lab.keeper <plan>``.

Every process of the host is its descendant, orphans included, so that a host can be frozen, listed and
killed. SIGUSR1 starts sshd again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from lab import syscalls

PRIVILEGE_SEPARATION = Path("/run/sshd")


def main() -> None:
    """Become a host."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    if os.fork():
        os._exit(0)
    syscalls.adopt_orphans()
    os.sched_setaffinity(0, plan["cpus"])
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGUSR1})
    start(plan["sshd"])
    while True:
        if signal.sigwait({signal.SIGCHLD, signal.SIGUSR1}) == signal.SIGUSR1:
            start(plan["sshd"])
        else:
            bury()


def start(command: list[str]) -> None:
    """Start sshd as a child; its words go to the log of the host."""
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)

    def unblock_and_follow() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, signal.SIGUSR1})
        syscalls.die_with_parent(signal.SIGKILL)

    subprocess.Popen(
        command,
        env={"PATH": os.defpath},
        start_new_session=True,
        preexec_fn=unblock_and_follow,  # noqa: PLW1509 - this process has one thread
    )


def bury() -> None:
    """Take leave of the children that have ended, adopted ones included."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main()
