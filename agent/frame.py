"""What surrounds every measurement on a host: the lock, a clean start, a work directory, a clean end."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar, Union

from agent import marked, preparation
from agent.lease import Lease
from agent.load.report import LoadError
from agent.lock import HostLock
from agent.problems import TrialProblem
from agent.records import Failure, Orphan, Record, Started, Timings
from agent.server import tail

if TYPE_CHECKING:
    from agent.dialogue import LoadRequest
    from agent.records import TrialRequest

_RAW = ("lighttpd.conf", "error.log", "output.log", "load.txt", "load.csv")

O = TypeVar("O", bound=Record)  # noqa: E741


class Frame:
    """The beginning and the end of what an agent does on a host.

    Parameters
    ----------
    request
        What is to be measured.
    lease
        How long it may take.
    say
        Where `started` goes.
    programs
        What must be on the host: what it is, and its path.
    """

    def __init__(
        self,
        request: Union[TrialRequest, LoadRequest],
        lease: Lease,
        say: Callable[[Record], None],
        programs: Mapping[str, str],
    ) -> None:
        self._request = request
        self._lease = lease
        self._say = say
        self._programs = programs
        self._orphans: tuple[Orphan, ...] = ()
        self._raw: dict[str, str] = {}
        self._took_s: dict[str, float] = {}
        self.work_dir = Path(request.work_dir)

    @property
    def environment(self) -> dict[str, str]:
        """What every program that is started finds in its environment: little, and the marks."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **kept,
            marked.PREFIX_MARK: self._request.prefix,
            marked.TRIAL_MARK: self._request.trial_id,
        }

    def run(self, measure: Callable[[], O]) -> Union[O, Failure]:
        """Call `measure` in a fresh work directory; return its outcome, or the Failure that says why not.

        The outcome gets timings, orphans and raw outputs. Either way nothing of the trial runs or lies about
        any more, and the lock is free.
        """
        began_s = time.monotonic()
        outcome: Any = self._outcome(measure)
        timings = Timings(**self._took_s, total=round(time.monotonic() - began_s, 6))
        dressed: Union[O, Failure] = replace(outcome, timings_s=timings, orphans=self._orphans, raw=self._raw)
        return dressed

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a part of the trial, one of the fields of `Timings`."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self._took_s[name] = round(self._took_s.get(name, 0.0) + time.monotonic() - began_s, 6)

    def _outcome(self, measure: Callable[[], O]) -> Union[O, Failure]:
        request = self._request
        try:
            self._lease.set_deadline(request.deadline_s)
            preparation.require_provisioned(request.prefix, self.work_dir, self._programs)
            run_dir = Path(request.prefix) / "run"
            with HostLock(run_dir, {"run_id": request.run_id, "trial_id": request.trial_id}):
                return self._locked(measure)
        except TrialProblem as problem:
            return self._failure(problem.kind, problem.reason)
        except LoadError as error:
            return self._failure("load_failed", str(error))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return self._failure("not_ready", f"the disk that holds {request.prefix} is full; make room")
            return self._failure("internal", f"{type(error).__name__}: {error}")

    def _locked(self, measure: Callable[[], O]) -> O:
        request = self._request
        with self.step("prepare"):
            self._orphans = preparation.remove_leftovers(Path(request.prefix))
            self._say(Started(request.trial_id, request.attempt, os.getpid(), self._orphans))
        try:
            with self.step("prepare"):
                preparation.make_work_dir(self.work_dir)
            return measure()
        finally:
            marked.kill(request.prefix)
            marked.reap()
            self._raw = {name: text for name in _RAW if (text := tail(self.work_dir / name))}
            shutil.rmtree(self.work_dir, ignore_errors=True)

    def _failure(self, kind: str, reason: str) -> Failure:
        return Failure(self._request.trial_id, self._request.attempt, kind, reason)
