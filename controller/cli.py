"""The command line: reads arguments, prints answers, and nothing else.

Data goes to standard output, progress and remarks to standard error. Exit codes: 0 all is well, 1 some trials
or hosts failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from controller.catalogue import load_catalogue
from controller.confirmation_run import confirm_run, experiment_of, read_question
from controller.doctor import examine, examine_host_keys
from controller.errors import InputError, SweepError
from controller.experiment import ExperimentFile, read_experiment
from controller.facts_cache import remembered_facts
from controller.findings import Level
from controller.inventory import Host, read_hosts
from controller.load_hosts import find_load_hosts, named_load_hosts
from controller.placement import CpuPool
from controller.plan import PlannedHost, plan_host
from controller.progress import duration
from controller.run_directory import PROJECT, find_run
from controller.runs import (
    Outcome,
    Workplace,
    planned_host,
    program,
    remaining_s,
    resume_command,
    resume_run,
    run_standing,
    select_hosts,
    start_run,
)
from controller.schedule import make_schedule, schedule_document
from controller.statements import print_confirmation, print_standings, tell_plan
from controller.sweep import Patience
from controller.trial import Site

BAD_INPUT, FAILED = 2, 1

app = typer.Typer(
    help="Which FastCGI concurrency model should your web hosts run, and with how many processes?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ExperimentPath = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="experiment file, YAML")]
RunName = Annotated[str | None, typer.Argument(metavar="[RUN]", help="run, by default the newest")]
Inventory = Annotated[Path, typer.Option("--inventory", "-i", help="Ansible inventory")]
Results = Annotated[Path, typer.Option("--results", help="directory of all runs")]
Limit = Annotated[
    str | None, typer.Option("--limit", "-l", help="narrow the hosts by another Ansible pattern")
]
PatienceS = Annotated[
    float, typer.Option("--patience", help="seconds to wait for a host that went away", min=0)
]

DEFAULT_INVENTORY = PROJECT / "inventory"
DEFAULT_RESULTS = PROJECT / "results"


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fcgi-sweep {version('fcgi-sweep')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="print the version and go"),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


@app.command()
def plan(
    experiment: ExperimentPath,
    inventory: Inventory = DEFAULT_INVENTORY,
    limit: Limit = None,
    cores: Annotated[
        int | None,
        typer.Option("--cores", min=1, help="cores of hosts that were never asked; by default as here"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the content of schedule.json")] = False,
) -> None:
    """Print schedule, number of trials and expected duration. Touches no host."""
    workplace = _workplace(inventory, DEFAULT_RESULTS)
    file = read_experiment(experiment, load_catalogue())
    hosts = select_hosts(workplace, file, limit)
    load_hosts = find_load_hosts(inventory, PROJECT, file.experiment, hosts)
    plans = [
        plan_host(file.experiment, _remembered(workplace, file, host, cores, load_hosts.get(host.name)))
        for host in hosts
    ]
    trials = make_schedule(file.experiment, plans)
    if as_json:
        typer.echo(json.dumps(schedule_document(file.experiment.design.seed, trials), indent=1))
    else:
        for trial in trials:
            typer.echo(f"{trial.trial}  {trial.role.value:<9}  {trial.cell}")
    tell_plan(workplace, file, plans, trials)
    if not trials:
        raise typer.Exit(FAILED)


@app.command()
def run(
    experiment: ExperimentPath,
    inventory: Inventory = DEFAULT_INVENTORY,
    results: Results = DEFAULT_RESULTS,
    limit: Limit = None,
    patience: PatienceS = 60.0,
) -> None:
    """Measure an experiment on its hosts."""
    workplace = _workplace(inventory, results, patience)
    file = read_experiment(experiment, load_catalogue())
    _finish(workplace, start_run(workplace, file, limit, shlex.join([*program(), *sys.argv[1:]])))


@app.command()
def resume(
    name: RunName = None,
    inventory: Inventory = DEFAULT_INVENTORY,
    results: Results = DEFAULT_RESULTS,
    new_epoch: Annotated[
        bool, typer.Option("--new-epoch", help="go on although build, host or experiment changed")
    ] = False,
    patience: PatienceS = 60.0,
) -> None:
    """Measure exactly what a run is missing."""
    workplace = _workplace(inventory, results, patience)
    _finish(workplace, resume_run(workplace, name, new_epoch))


@app.command()
def confirm(
    name: RunName = None,
    inventory: Inventory = DEFAULT_INVENTORY,
    results: Results = DEFAULT_RESULTS,
    *,
    blocks: Annotated[
        int | None, typer.Option("--blocks", min=1, help="blocks; by default as many as the report asks for")
    ] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="print the plan and touch no host")] = False,
    patience: PatienceS = 60.0,
) -> None:
    """Measure anew, with a fresh seed, what decides whether the peaks that a run suggests are real."""
    question = read_question(find_run(results, name))
    workplace = _workplace(inventory, question.confirmed.path.parent, patience)
    for reason in question.nothing_for:
        workplace.tell(reason)
    if not question.plans:
        typer.echo(f"run {question.confirmed.run_id}: nothing to confirm")
        return
    experiment = experiment_of(question, blocks)
    print_confirmation(workplace, question, experiment)
    if not only_plan:
        command = shlex.join([*program(), *sys.argv[1:]])
        _finish(workplace, confirm_run(workplace, question, experiment, command))


@app.command()
def status(
    name: RunName = None,
    results: Results = DEFAULT_RESULTS,
    inventory: Inventory = DEFAULT_INVENTORY,
) -> None:
    """Tell how far a run is, under way or dead."""
    workplace = _workplace(inventory, results)
    found = find_run(results, name)
    driver, standings = found.driver(), run_standing(found)
    typer.echo(f"run {found.run_id}: " + (f"under way ({driver})" if driver else "nobody drives it"))
    print_standings(standings)
    missing = sum(standing.missing for standing in standings)
    if missing:
        scheduled = sum(standing.scheduled for standing in standings)
        typer.echo(f"missing: {missing} of {scheduled} trials, about {duration(remaining_s(found))}")
    if missing and not driver:
        typer.echo(f"go on with: {resume_command(workplace, found)}")
    if missing:
        raise typer.Exit(FAILED)


@app.command()
def provision(
    inventory: Inventory = DEFAULT_INVENTORY,
    limit: Annotated[str, typer.Option("--limit", "-l", help="Ansible host pattern")] = "targets",
    accept_host_keys: Annotated[
        bool, typer.Option("--accept-host-keys", help="add unknown host keys to known_hosts first")
    ] = False,
) -> None:
    """Build lighttpd and PCRE on the hosts, and put handlers and agent there."""
    from controller.ansible import run_playbook  # noqa: PLC0415

    workplace = _workplace(inventory, DEFAULT_RESULTS)
    hosts = read_hosts(inventory, limit, PROJECT)
    if accept_host_keys:
        for finding in examine_host_keys(hosts, accept=True):
            workplace.tell(f"{finding.host}: host key {finding.text}")

    told: set[str] = set()  # hosts go at their own pace: each of them starts every task

    def tell(event: Any) -> None:
        task = event.get("event_data", {}).get("task")
        if event.get("event") != "playbook_on_task_start" or not task or task in told:
            return
        told.add(task)
        if not task.startswith("Validating arguments against"):
            workplace.tell(f"  {task}")

    result = run_playbook(PROJECT / "provision.yml", inventory, limit, tell)
    if not result.hosts:
        raise SweepError(
            f"provision.yml ended as {result.status} before any host: {result.output.strip()[-2000:]}"
        )
    for host, summary in result.hosts.items():
        state = "unreachable" if summary.unreachable else "failed" if summary.failed else "ready"
        typer.echo(f"{host:<20} {state:<12} ok={summary.ok} changed={summary.changed}")
        if not summary.good:
            typer.echo(
                f"  {summary.reason}\n  next: 'fcgi-sweep doctor --limit {host}', then provision it again"
            )
    if not all(summary.good for summary in result.hosts.values()):
        raise typer.Exit(FAILED)


@app.command()
def doctor(
    inventory: Inventory = DEFAULT_INVENTORY,
    limit: Annotated[str, typer.Option("--limit", "-l", help="Ansible host pattern")] = "targets",
    accept_host_keys: Annotated[
        bool, typer.Option("--accept-host-keys", help="add unknown (never changed) host keys to known_hosts")
    ] = False,
) -> None:
    """Look at every host: what is wrong, and what to do."""
    workplace = _workplace(inventory, DEFAULT_RESULTS)
    hosts = read_hosts(inventory, limit, PROJECT)
    findings = examine(hosts, accept_host_keys, named_load_hosts(inventory, PROJECT, hosts))
    for finding in findings:
        typer.echo(f"{finding.level:<4} {finding.host:<20} {finding.check:<16} {finding.text}")
    bad = [finding for finding in findings if finding.level is Level.BAD]
    looked_at = len({finding.host for finding in findings})
    workplace.tell(f"hosts looked at: {looked_at}, to mend: {len(bad)}")
    if bad:
        raise typer.Exit(FAILED)


@app.command()
def probe(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="a unix socket's path, or host:port")],
    *,
    host: Annotated[
        str | None, typer.Option("--host", help="look from this inventory host; by default from here")
    ] = None,
    inventory: Inventory = DEFAULT_INVENTORY,
    url: Annotated[str, typer.Option("--url", help="path to ask for")] = "/",
    query: Annotated[str, typer.Option("--query", help="query string to send")] = "",
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="a CGI variable, such as SCRIPT_FILENAME for PHP"),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="seconds to wait for an answer")] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Ask any FastCGI responder what it can do, and see whether it does."""
    from controller.responder import ProbeOrder, probe_from, probe_from_here  # noqa: PLC0415

    order = ProbeOrder(address, url, query, tuple(param or ()), timeout, as_json)
    if host is None:
        raise typer.Exit(probe_from_here(order))
    hosts = read_hosts(inventory, host, PROJECT)
    if len(hosts) != 1:
        raise InputError(
            f"--host {host}: is {len(hosts)} hosts; name one of {', '.join(h.name for h in hosts)}"
        )
    raise typer.Exit(probe_from(hosts[0], order, typer.echo))


def main() -> int:
    """Run the command line; return the exit code, or leave with it."""
    from lab.__main__ import app as lab_app  # noqa: PLC0415
    from lab.errors import LabError  # noqa: PLC0415

    if not any(group.name == "lab" for group in app.registered_groups):
        app.add_typer(lab_app, name="lab", help="Throw-away test hosts on this machine.")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _interrupt)
    try:
        app()
    except InputError as error:
        _complain(error)
        return BAD_INPUT
    except (SweepError, LabError) as error:
        _complain(error)
        return FAILED
    except OSError as error:  # of this machine: its disk, its directories, their permissions
        _complain(f"this machine: {error}; mend that and call the command again")
        return FAILED
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _complain(error: Exception | str) -> None:
    Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)


def _workplace(inventory: Path, results: Path, patience_s: float = 60.0) -> Workplace:
    return Workplace(inventory, results, Console(stderr=True), Patience(absence_s=patience_s))


def _remembered(
    workplace: Workplace, file: ExperimentFile, host: Host, cores: int | None, load_host: Host | None
) -> PlannedHost:
    load_machine = load_host.machine if load_host else None
    facts = remembered_facts(host)
    if facts is not None:
        return replace(planned_host(file.experiment, Site(host, facts)), load_machine=load_machine)
    assumed = cores or len(os.sched_getaffinity(0))
    source = "--cores" if cores else "like this machine"
    workplace.tell(
        f"{host.name}: its cores are not known yet; planned with {assumed} ({source}); "
        f"'fcgi-sweep doctor --limit {host.name}' asks it"
    )
    pool = CpuPool(tuple(range(assumed)), host.server_cpus, host.load_cpus)
    factors = file.experiment.factors
    versions, pythons = ({level: level for level in levels} for levels in (factors.lighttpd, factors.python))
    return PlannedHost(
        host.name, host.machine, pool, versions, pythons, load_catalogue().promises,
        load_from=host.load_from, load_machine=load_machine, assumed=True,
    )  # fmt: skip


def _finish(workplace: Workplace, outcome: Outcome) -> None:
    typer.echo(f"run {outcome.run.run_id}: {outcome.run.path}")
    print_standings(outcome.standings)
    for host, reason in outcome.left_out.items():
        typer.echo(f"{host:<20} left out: {reason}")
    if not outcome.complete:
        if any(standing.missing for standing in outcome.standings):
            workplace.tell(f"go on with: {resume_command(workplace, outcome.run)}")
        raise typer.Exit(FAILED)
