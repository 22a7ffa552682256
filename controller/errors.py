"""What can go wrong between an experiment file and a finished run.

One root, so that the command line catches one type and prints one message::

    SweepError
    ├── InputError                 what the user wrote is wrong (exit code 2)
    │   ├── ExperimentError        an experiment file: file, line, remedy
    │   ├── InventoryError         the inventory, or a host pattern without hosts
    │   └── RunRefused             a run directory that must not be touched as asked
    │       ├── RunLocked          another controller drives it
    │       └── FingerprintChanged experiment, build or host differ from when the run began
    ├── RemoteError                a host did not do its part (carries the host's name)
    │   ├── HostUnreachable        no connection; the host key and login included
    │   ├── HostLost               the connection or the host went away while it was used
    │   └── AgentFailed            the agent answered, with a failure
    └── JournalError               the record of the run cannot be read or written

Every message names the host or file, the fact and the next step.
"""

from __future__ import annotations

from collections.abc import Sequence


class SweepError(Exception):
    """Root of every error that this package raises on purpose."""


class InputError(SweepError):
    """What the user wrote is wrong; nothing was started."""


class ExperimentError(InputError):
    """An experiment file that cannot be run.

    Parameters
    ----------
    problems : sequence of str
        One line each, with file, line number and remedy.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class InventoryError(InputError):
    """The inventory cannot be read, or no host in it is meant."""


class RunRefused(InputError):
    """A run directory that must not be touched in the way that was asked for."""


class RunLocked(RunRefused):
    """Another controller drives the run at this moment."""


class FingerprintChanged(RunRefused):
    """Experiment, schedule, build or host are not what they were when the run began."""


class RemoteError(SweepError):
    """A host did not do its part.

    Parameters
    ----------
    host : str
        Inventory name of the host.
    kind : str
        Failure kind as it goes into the journal.
    reason : str
        The fact and the next step, without the host's name.
    """

    def __init__(self, host: str, kind: str, reason: str) -> None:
        super().__init__(f"{host}: {reason}")
        self.host = host
        self.kind = kind
        self.reason = reason


class HostUnreachable(RemoteError):
    """No connection to the host could be made."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(host, "unreachable", reason)


class HostLost(RemoteError):
    """The connection or the host itself went away while it was in use."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(host, "host_lost", reason)


class AgentFailed(RemoteError):
    """The agent on the host answered with a failure."""


class JournalError(SweepError):
    """The record of the run cannot be read or written."""
