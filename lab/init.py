"""The first process of a lab host: ``python -m lab.init <plan> <report fd> <lock fd>``.

It enters the host's network namespace, makes the others, builds the root, starts sshd, reports, and from then
on buries the dead. When it dies the kernel kills everything in its pid namespace.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lab import rootfs, syscalls
from lab.rootfs import READY, RootPlan

SOFT_FILES = 1024  # what a login on a Debian machine gets
HARD_FILES = 524288


def main() -> None:
    """Become a host."""
    plan_file, report_fd, lock_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    plan: dict[str, Any] = json.loads(Path(plan_file).read_text())
    for descriptor in (report_fd, lock_fd):
        os.set_inheritable(descriptor, False)
    try:
        settle(plan)
    except Exception as error:
        confess(report_fd, error)
    if os.fork():
        os._exit(0)
    try:
        os.sched_setaffinity(0, plan["cpus"])
        socket.sethostname(plan["root"]["hostname"])
        rootfs.build(RootPlan(**plan["root"]))
        rootfs.start_sshd()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        report(report_fd, READY)
    except Exception as error:
        confess(report_fd, error)
    os.close(lock_fd)
    os.close(report_fd)
    bury()


def settle(plan: Mapping[str, Any]) -> None:
    """Take over the namespaces and leave behind what the caller's terminal and shell had set."""
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_FILES, HARD_FILES))
    except ValueError:  # root in a container may not raise it
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(SOFT_FILES, ceiling), ceiling))
    syscalls.enter_namespace(plan["netns"])
    syscalls.unshare(
        syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC
    )


def report(descriptor: int, text: str) -> None:
    """Tell `up`, which may be gone."""
    try:
        os.write(descriptor, text.encode())
    except BrokenPipeError:
        return


def confess(descriptor: int, error: Exception) -> NoReturn:
    """Tell `up` what went wrong, the log in full, and die."""
    traceback.print_exception(error)
    report(descriptor, f"{type(error).__name__}: {error}")
    os._exit(1)


def bury() -> NoReturn:
    """Wait for children, adopted ones included, for ever."""
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            continue


if __name__ == "__main__":
    main()
