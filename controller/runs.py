"""Starting a run and going on with one."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from controller.cells import Trial
from controller.epochs import settle_changes
from controller.errors import ExperimentError, FingerprintChanged, InventoryError, RemoteError, RunRefused
from controller.experiment import Experiment, ExperimentFile
from controller.facts_cache import remember_facts
from controller.facts_query import facts_of
from controller.inventory import Host, read_hosts
from controller.journal import Journal, attempts, current_epoch, read_journal
from controller.load_hosts import find_load_hosts, load_site
from controller.machines import joined
from controller.plan import HostPlan, PlannedHost, joined_machines, plan_host, trial_duration_s
from controller.progress import duration, open_progress
from controller.run_directory import PROJECT, RunDirectory, create_run, find_run
from controller.schedule import expected_duration_s, make_schedule
from controller.standing import HostStanding, missing_trials, standings
from controller.sweep import Patience, Sweep
from controller.trial import Site, missing_for_load, missing_on_host

Planner = Callable[[PlannedHost], HostPlan]


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where things are, and whom to tell.

    Attributes
    ----------
    inventory, results : Path
        Inventory file or directory, and the directory of all runs.
    console : Console
        For progress and remarks; standard error.
    patience : Patience
        When to stop waiting for a host.
    """

    inventory: Path
    results: Path
    console: Console
    patience: Patience = field(default_factory=Patience)

    def tell(self, text: str) -> None:
        """Print a remark as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command has achieved.

    Attributes
    ----------
    run : RunDirectory
        The run.
    standings : tuple of HostStanding
        How far it is.
    left_out : mapping of str to str
        Hosts that could not take part, and why.
    """

    run: RunDirectory
    standings: tuple[HostStanding, ...]
    left_out: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether every trial of every host that was asked for is valid."""
        return not self.left_out and all(standing.missing == 0 for standing in self.standings)


def select_hosts(workplace: Workplace, file: ExperimentFile, limit: str | None) -> tuple[Host, ...]:
    """Return the hosts of an experiment, narrowed by a second pattern.

    Raises
    ------
    ExperimentError
        When the experiment's pattern selects none; it names file and line.
    InventoryError
        When `limit` leaves none.
    """
    try:
        hosts = read_hosts(workplace.inventory, file.experiment.hosts, PROJECT)
    except InventoryError as error:
        if "selects no host" in str(error):
            raise ExperimentError([file.problem(("hosts",), str(error))]) from error
        raise
    if limit is None:
        return hosts
    allowed = {host.name for host in read_hosts(workplace.inventory, limit, PROJECT)}
    if left := tuple(host for host in hosts if host.name in allowed):
        return left
    raise InventoryError(
        f"--limit {limit} leaves none of the experiment's hosts: {', '.join(h.name for h in hosts)}"
    )


def planned_host(experiment: Experiment, site: Site) -> PlannedHost:
    """Return what planning needs to know about a host whose facts are known."""
    builds = {level: site.facts.lighttpd_build(level) for level in experiment.factors.lighttpd}
    pythons = {level: site.facts.python(level) for level in experiment.factors.python}
    return PlannedHost(
        name=site.host.name,
        machine=site.host.machine,
        pool=site.pool,
        lighttpd={level: build.version for level, build in builds.items() if build},
        python={level: str(python["name"]) for level, python in pythons.items() if python},
        promises={name: site.facts.handler(name) or {} for name in experiment.factors.handler},
        absent=site.facts.absent_handlers,
        load_from=site.host.load_from,
        load_machine=site.load.host.machine if site.load else None,
    )


def start_run(workplace: Workplace, file: ExperimentFile, limit: str | None, command: str) -> Outcome:
    """Begin a run: ask the hosts, write the schedule, measure.

    Raises
    ------
    InputError, JournalError
        Before or during the run; what is measured is on disk.
    """
    hosts = select_hosts(workplace, file, limit)
    sites, left_out = _ask(workplace, file.experiment, hosts)

    def planner(host: PlannedHost) -> HostPlan:
        return plan_host(file.experiment, host)

    return measure_new_run(workplace, file, sites, left_out, planner=planner, command=command)


def measure_new_run(
    workplace: Workplace,
    file: ExperimentFile,
    sites: Mapping[str, Site],
    left_out: dict[str, str],
    *,
    planner: Planner,
    command: str,
    confirms: Mapping[str, Any] | None = None,
) -> Outcome:
    """Write the schedule of hosts that have answered, and measure it.

    Parameters
    ----------
    workplace, file, command, confirms
        As `create_run` records them.
    sites : mapping of str to Site
        The hosts.
    left_out : dict of str to str
        Hosts that cannot take part, and why; those that lack something are added.
    planner : callable
        Gives the cells of a host.
    """
    plans = _plan(workplace, file.experiment, sites, left_out, planner)
    trials = make_schedule(file.experiment, plans)
    if not trials:
        raise RunRefused(
            "no host can run this experiment:\n" + "\n".join(f"  {h}: {r}" for h, r in left_out.items())
        )
    sites = {plan.host.name: sites[plan.host.name] for plan in plans}
    documents = {
        name: {
            "schema": 1,
            "host": name,
            "machine": site.host.machine,
            "label": site.facts.label(name),
            "facts": site.facts.document,
            **({"load_from": site.load.describe()} if site.load else {}),
        }
        for name, site in sites.items()
    }
    fingerprints = {name: site.fingerprint() for name, site in sites.items()}
    run = create_run(
        workplace.results, file, trials, documents, fingerprints, command=command, confirms=confirms
    )
    expected = duration(expected_duration_s(file.experiment, trials, joined_machines(plans)))
    workplace.tell(f"run {run.run_id}: {len(trials)} trials on {', '.join(sites)}, about {expected}")
    with run.locked(), run.open_journal() as journal, resume_hint(workplace, run):
        _measure(workplace, run, file.experiment, journal, trials=trials, sites=sites)
        return Outcome(run, standings(trials, tuple(attempts(journal.records))), left_out)


def resume_run(workplace: Workplace, name: str | None, new_epoch: bool) -> Outcome:
    """Go on with a run: measure exactly what has no valid attempt.

    Raises
    ------
    RunLocked
        When another controller drives it.
    FingerprintChanged
        When experiment, build or host are not what they were, unless `new_epoch`.
    """
    run = find_run(workplace.results, name)
    with run.locked():
        experiment, schedule = run.experiment(), run.schedule()
        with run.open_journal() as journal, resume_hint(workplace, run):
            missing = missing_trials(schedule, attempts(journal.records))
            if not missing:
                workplace.tell(f"run {run.run_id}: nothing is missing")
                return Outcome(run, standings(schedule, tuple(attempts(journal.records))), {})
            wanted = dict.fromkeys(trial.host for trial in missing)
            sites, left_out = known_sites(workplace, experiment, wanted)
            now = {name: site.fingerprint() for name, site in sites.items()}
            if epoch := settle_changes(run, journal, now, new_epoch=new_epoch):
                workplace.tell(epoch)
            workplace.tell(f"run {run.run_id}: {len(missing)} of {len(schedule)} trials are missing")
            _measure(workplace, run, experiment, journal, trials=missing, sites=sites)
            return Outcome(run, standings(schedule, tuple(attempts(journal.records))), left_out)


def run_standing(run: RunDirectory) -> tuple[HostStanding, ...]:
    """Return how far a run is, under way or dead, without touching it."""
    return standings(run.schedule(), tuple(attempts(read_journal(run.journal_path).records)))


def remaining_s(run: RunDirectory) -> float:
    """Return about how many seconds the trials that are missing take."""
    missing = missing_trials(run.schedule(), tuple(attempts(read_journal(run.journal_path).records)))
    hosts = [run.facts(host) for host in run.document()["hosts"]]
    groups = joined((host["machine"], host["load_from"]["machine"]) for host in hosts if "load_from" in host)
    return expected_duration_s(run.experiment(), missing, groups)


def resume_command(workplace: Workplace, run: RunDirectory) -> str:
    """Return the command line that goes on with a run."""
    words = [*program(), "resume", run.run_id]
    if run.path.parent.resolve() != (PROJECT / "results").resolve():
        words += ["--results", str(run.path.parent)]
    if workplace.inventory.resolve() != (PROJECT / "inventory").resolve():
        words += ["--inventory", str(workplace.inventory)]
    return shlex.join(words)


def program() -> list[str]:
    """Return how this program was started, as words of a command line."""
    name = Path(sys.argv[0])
    if name.name == "__main__.py":
        return [_short(Path(sys.executable)), "-m", "controller"]
    return [_short(name)]


def _short(path: Path) -> str:
    if os.environ.get("PATH") and str(path.parent) in os.environ["PATH"].split(os.pathsep):
        return path.name
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)


@contextlib.contextmanager
def resume_hint(workplace: Workplace, run: RunDirectory) -> Iterator[None]:
    """Tell how to go on when what happens inside ends early."""
    try:
        yield
    except FingerprintChanged:
        raise
    except BaseException:
        workplace.tell(f"what is measured is safe; go on with: {resume_command(workplace, run)}")
        raise


def _ask(
    workplace: Workplace, experiment: Experiment, hosts: Sequence[Host]
) -> tuple[dict[str, Site], dict[str, str]]:
    sites: dict[str, Site] = {}
    left_out: dict[str, str] = {}
    load_hosts = find_load_hosts(workplace.inventory, PROJECT, experiment, hosts)
    every = {host.name: host for host in (*hosts, *load_hosts.values())}
    answers = facts_of(list(every.values()), experiment.workloads)
    for host in hosts:
        answer = answers[host.name]
        if isinstance(answer, RemoteError):
            left_out[host.name] = f"{answer.kind}: {answer.reason}"
        elif answer.manifest is None:
            left_out[host.name] = _not_provisioned(host.name, "provisioning never finished there")
        else:
            remember_facts(host, answer)
            load = load_site(host, load_hosts[host.name], answers) if host.name in load_hosts else None
            if isinstance(load, str):
                left_out[host.name] = load
            else:
                sites[host.name] = Site(host, answer, load)
    for host_name, reason in left_out.items():
        workplace.tell(f"{host_name}: left out: {reason}")
    return sites, left_out


def _plan(
    workplace: Workplace,
    experiment: Experiment,
    sites: Mapping[str, Site],
    left_out: dict[str, str],
    planner: Planner,
) -> list[HostPlan]:
    plans = []
    for name, site in sites.items():
        plan = planner(planned_host(experiment, site))
        for dropped in plan.dropped:
            workplace.tell(f"{name}: {dropped.cells} cells dropped: {dropped.reason}")
        reason = _lacks(plan, site)
        if not plan.cells:
            left_out[name] = "; ".join(dropped.reason for dropped in plan.dropped)
        elif reason:
            left_out[name] = reason
            workplace.tell(f"{name}: left out: {left_out[name]}")
        else:
            plans.append(plan)
    return plans


def _lacks(plan: HostPlan, site: Site) -> str | None:
    for cell in (*plan.cells, plan.reference):
        if reason := missing_on_host(cell, site.facts):
            return _not_provisioned(site.host.name, reason)
        load = site.load if cell.placement == "remote" else None
        if load is not None and (reason := missing_for_load(cell, load.facts)):
            return _not_provisioned(load.host.name, f"load host {load.host.name}: {reason}")
    return None


def _not_provisioned(host: str, reason: str) -> str:
    return f"not_provisioned: {reason}; run 'fcgi-sweep provision --limit {host}'"


def _measure(
    workplace: Workplace,
    run: RunDirectory,
    experiment: Experiment,
    journal: Journal,
    *,
    trials: Sequence[Trial],
    sites: Mapping[str, Site],
) -> None:
    epoch = current_epoch(journal.records)
    possible = [trial for trial in trials if trial.host in sites]
    with open_progress(workplace.console, possible, trial_duration_s(experiment)) as progress:
        sweep = Sweep(run, experiment, journal, progress, epoch=epoch, patience=workplace.patience)
        sweep.measure(possible, sites)


def known_sites(
    workplace: Workplace, experiment: Experiment, wanted: Iterable[str]
) -> tuple[dict[str, Site], dict[str, str]]:
    """Ask the hosts that a run already knows; return those that answered, and why the others did not.

    Raises
    ------
    RunRefused
        When none answered.
    """
    known = {host.name: host for host in read_hosts(workplace.inventory, experiment.hosts, PROJECT)}
    sites, left_out = _ask(workplace, experiment, [known[name] for name in wanted if name in known])
    for name in wanted:
        if name not in known:
            left_out[name] = f"is no longer in {workplace.inventory}; put it back to measure its trials"
            workplace.tell(f"{name}: {left_out[name]}")
    if not sites:
        raise RunRefused(
            "none of the hosts can be measured:\n"
            + "\n".join(f"  {host}: {reason}" for host, reason in left_out.items())
        )
    return sites, left_out
