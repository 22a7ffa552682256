"""Measuring what is missing: machines at the same time, the hosts of one machine one after the other.

Machines of which one makes the load for the other count as one: nothing else is measured on either.

A trial that fails, or that fails a gate, is tried again at the end of its block, a bounded number of times. A
host that goes away is set aside and asked again from time to time while the others go on; it is given up for
now when it stays away too long or keeps going away. Its trials stay missing; a later resume measures those.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.cells import Trial
from controller.errors import JournalError, RemoteError
from controller.experiment import Experiment
from controller.facts_query import query_facts
from controller.fingerprint import changes
from controller.journal import NO_ROOM, DiskFull, Journal, attempts
from controller.machines import joined
from controller.progress import Progress
from controller.remote import Transport
from controller.run_directory import RunDirectory
from controller.standing import attempts_made
from controller.transports import open_transport
from controller.trial import Attempt, LoadPart, Site, attempt_trial, load_request, trial_request

AWAY = ("unreachable", "host_lost", "busy")
"""Failure kinds that say nothing about the trial: the host was not there for us."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When to stop waiting for a host.

    Attributes
    ----------
    absence_s : float
        How long a host may stay away.
    losses : int
        How often in a row it may go away before a trial succeeds.
    first_pause_s, longest_pause_s : float
        Pauses between two looks at a host that is away grow from the one to the other.
    """

    absence_s: float = 60.0
    losses: int = 3
    first_pause_s: float = 1.0
    longest_pause_s: float = 10.0


@dataclass(slots=True)
class _Lane:
    """The work that is left on one host."""

    site: Site
    transport: Transport
    load_transport: Transport | None
    blocks: deque[deque[Trial]]
    tries: dict[str, int] = field(default_factory=dict)
    losses: int = 0
    away_since: float | None = None
    pause_s: float = 0.0
    look_again_at: float = 0.0
    given_up: bool = False

    @property
    def open(self) -> bool:
        return bool(self.blocks) and not self.given_up

    def close(self) -> None:
        self.transport.close()
        if self.load_transport is not None:
            self.load_transport.close()


class Sweep:
    """Measures trials on hosts until none is left, every host is given up, or somebody cancels.

    Parameters
    ----------
    run : RunDirectory
        Where raw outputs go.
    experiment : Experiment
        Load and number of attempts.
    journal : Journal
        Where attempts go.
    epoch : int
        Epoch that new attempts belong to.
    progress : Progress
        Who wants to know.
    patience : Patience
        When to stop waiting for a host.
    """

    def __init__(
        self,
        run: RunDirectory,
        experiment: Experiment,
        journal: Journal,
        progress: Progress,
        *,
        epoch: int = 1,
        patience: Patience | None = None,
    ) -> None:
        self._run = run
        self._experiment = experiment
        self._journal = journal
        self._progress = progress
        self._epoch = epoch
        self._patience = patience or Patience()
        self._made = attempts_made(attempts(journal.records))
        self._cancel = threading.Event()
        self._errors: list[BaseException] = []

    def cancel(self) -> None:
        """Ask all trials to stop. Returns at once; `measure` ends when they have stopped."""
        self._cancel.set()

    def measure(self, trials: Sequence[Trial], sites: Mapping[str, Site]) -> None:
        """Measure trials; those of hosts without a site stay missing.

        On KeyboardInterrupt every trial under way is stopped on its host before the exception goes on.

        Raises
        ------
        JournalError
            When the record cannot be written; every trial under way was stopped.
        """
        ends: list[threading.Event] = []
        try:
            for machine, lanes in _lanes(trials, sites).items():
                end = threading.Event()
                threading.Thread(target=self._guarded, args=(lanes, end), name=f"machine {machine}").start()
                ends.append(end)
            _wait_for_all(ends)
        except KeyboardInterrupt:
            self.cancel()
            _wait_for_all(ends, patiently=True)
            raise
        if self._errors:
            raise self._errors[0]

    def _guarded(self, lanes: list[_Lane], end: threading.Event) -> None:
        try:
            self._work(lanes)
        except BaseException as error:  # raised again in measure
            self._errors.append(error)
            self.cancel()
        finally:
            for lane in lanes:
                lane.close()
            end.set()

    def _work(self, lanes: list[_Lane]) -> None:
        while not self._cancel.is_set() and (left := [lane for lane in lanes if lane.open]):
            present = [lane for lane in left if lane.away_since is None]
            for lane in left:
                if lane.away_since is not None and time.monotonic() >= lane.look_again_at:
                    self._look_again(lane)
            if present:
                # the host that is furthest behind: so the hosts of a machine share its good and bad hours
                self._measure_block(max(present, key=lambda lane: len(lane.blocks)))
            elif all(lane.away_since is not None for lane in left):
                self._cancel.wait(max(0.05, min(lane.look_again_at for lane in left) - time.monotonic()))

    def _measure_block(self, lane: _Lane) -> None:
        block = lane.blocks[0]
        while block and not self._cancel.is_set():
            trial = block.popleft()
            attempt = self._attempt(lane, trial)
            if attempt.status != "valid":
                self._try_again(lane, block, attempt)
            if attempt.kind in AWAY:
                self._set_aside(lane, attempt.reason)
                break
            lane.losses = 0
        if not block:
            lane.blocks.popleft()

    def _try_again(self, lane: _Lane, block: deque[Trial], attempt: Attempt) -> None:
        trial = attempt.trial
        if attempt.kind in AWAY:
            block.append(trial)  # bounded by the patience with the host
            return
        lane.tries[trial.trial] = lane.tries.get(trial.trial, 0) + 1
        if lane.tries[trial.trial] < self._experiment.design.attempts:
            block.append(trial)
        else:
            self._progress.dropped(trial.host, 1)
            self._progress.told(
                trial.trial, f"given up after {lane.tries[trial.trial]} attempts: {attempt.why}"
            )

    def _attempt(self, lane: _Lane, trial: Trial) -> Attempt:
        self._made[trial.trial] += 1
        number = self._made[trial.trial]
        request = trial_request(
            self._run.run_id, trial, number, lane.site, self._experiment.load,
            starts=self._experiment.measure == "startup",
        )  # fmt: skip
        self._progress.started(trial)
        load: LoadPart | None = None
        if request.load_from is not None and lane.site.load is not None and lane.load_transport is not None:
            load = LoadPart(lane.load_transport, load_request(trial, lane.site.load, request))
        attempt = attempt_trial(lane.transport, trial, request, self._epoch, self._cancel, load=load)
        self._record(attempt)
        self._progress.ended(attempt)
        if attempt.orphans:
            self._progress.told(
                lane.site.host.name, f"{attempt.orphans} processes of a dead trial were ended first"
            )
        return attempt

    def _record(self, attempt: Attempt) -> None:
        full: OSError | None = None
        raw: str | None = None
        try:
            raw = self._run.write_raw(attempt.trial.trial, attempt.attempt, attempt.texts)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise JournalError(
                    f"{self._run.path}: raw output cannot be written ({error}); mend that, then resume"
                ) from error
            full = error
        self._journal.append(attempt.to_json(raw))
        if full is not None:
            raise DiskFull(
                f"{self._run.path}: {full.strerror}; {len(self._journal.records)} records are safe on disk, "
                "the last one without its raw output; free some space, then resume"
            ) from full

    def _set_aside(self, lane: _Lane, reason: str) -> None:
        lane.close()
        lane.losses += 1
        lane.away_since = time.monotonic()
        lane.pause_s = self._patience.first_pause_s
        lane.look_again_at = lane.away_since + lane.pause_s
        if lane.losses >= self._patience.losses:
            self._give_up(lane, f"went away {lane.losses} times without a trial in between ({reason})")
        else:
            self._progress.told(lane.site.host.name, f"away: {reason}; the others go on")

    def _look_again(self, lane: _Lane) -> None:
        reason = self._absence(lane)
        if reason is None:
            lane.away_since = None
            self._progress.told(lane.site.host.name, "is back")
            return
        lane.close()
        now = time.monotonic()
        if lane.away_since is not None and now - lane.away_since >= self._patience.absence_s:
            self._give_up(lane, reason)
        lane.pause_s = min(self._patience.longest_pause_s, lane.pause_s * 1.6)
        lane.look_again_at = now + lane.pause_s

    def _absence(self, lane: _Lane) -> str | None:
        site = lane.site
        try:
            site = replace(site, facts=query_facts(lane.transport))
            if site.load is not None and lane.load_transport is not None:
                site = replace(site, load=replace(site.load, facts=query_facts(lane.load_transport)))
        except RemoteError as error:
            return error.reason if error.host == site.host.name else f"load host {error}"
        if site.facts.lock is not None:
            return f"another trial holds the host: {site.facts.lock}"
        if site.load is not None and site.load.facts.lock is not None:
            return f"another trial holds the load host {site.load.host.name}: {site.load.facts.lock}"
        changed = changes(lane.site.fingerprint(), site.fingerprint())
        if changed:
            lane.away_since = float("-inf")  # waiting does not undo it
            return "came back changed: " + "; ".join(str(change) for change in changed)
        return None

    def _give_up(self, lane: _Lane, reason: str) -> None:
        lane.given_up = True
        left = sum(len(block) for block in lane.blocks)
        self._progress.dropped(lane.site.host.name, left)
        self._progress.told(
            lane.site.host.name,
            f"given up for now, {left} trials stay missing: {reason}; resume when it is back",
        )


def _lanes(trials: Sequence[Trial], sites: Mapping[str, Site]) -> dict[str, list[_Lane]]:
    blocks: dict[str, dict[int, deque[Trial]]] = {}
    for trial in trials:
        if trial.host in sites:
            blocks.setdefault(trial.host, {}).setdefault(trial.block, deque()).append(trial)
    loads = {
        trial.host: load
        for trial in trials
        if trial.host in sites and trial.cell.placement == "remote" and (load := sites[trial.host].load)
    }
    groups = joined((sites[host].host.machine, load.host.machine) for host, load in loads.items())
    machines: dict[str, list[_Lane]] = {}
    for host, of_host in blocks.items():
        site = sites[host]
        other = open_transport(loads[host].host) if host in loads else None
        lane = _Lane(site, open_transport(site.host), other, deque(of_host.values()))
        machines.setdefault(groups.get(site.host.machine, site.host.machine), []).append(lane)
    return machines


def _wait_for_all(ends: Sequence[threading.Event], *, patiently: bool = False) -> None:
    """Wait for threads to end; `patiently` however often Ctrl-C comes: their last records matter."""
    # not Thread.join: interrupted by Ctrl-C, it takes a running thread for a finished one (Python 3.11)
    for end in ends:
        while not end.is_set():
            try:
                end.wait(0.2)
            except KeyboardInterrupt:
                if not patiently:
                    raise
