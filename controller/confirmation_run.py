"""Starting a confirmation run: read what the report asks for, check that the hosts are what they were."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from controller.cells import Trial
from controller.confirmation import (
    Confirmation,
    ConfirmationAnswer,
    ConfirmationPlan,
    confirming_experiment,
    plan_confirmation,
)
from controller.epochs import newest_fingerprints
from controller.errors import FingerprintChanged, InventoryError, RunLocked, RunRefused
from controller.experiment import ExperimentFile, digest
from controller.fingerprint import Change, changes
from controller.host_facts import HostFacts
from controller.inventory import Host, read_hosts
from controller.journal import attempts, read_journal
from controller.plan import HostPlan, PlannedHost
from controller.run_directory import PROJECT, RunDirectory
from controller.runs import (
    Outcome,
    Workplace,
    known_sites,
    measure_new_run,
    planned_host,
)
from controller.schedule import make_schedule
from controller.trial import Site
from controller.yaml_lines import parse_yaml


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be confirmed.

    Attributes
    ----------
    confirmed : RunDirectory
        The run in which the suspects were seen.
    journal_sha256 : str
        Of its journal when the question was read.
    last_day : str
        Date (UTC) of its last attempt.
    plans : tuple of ConfirmationPlan
        One a suspect; may be empty.
    nothing_for : tuple of str
        Why other curves need no confirmation.
    """

    confirmed: RunDirectory
    journal_sha256: str
    last_day: str
    plans: tuple[ConfirmationPlan, ...]
    nothing_for: tuple[str, ...]


def read_question(run: RunDirectory) -> Question:
    """Read what the report of a run wants confirmed.

    Raises
    ------
    RunRefused
        When the run is under way, or its report is missing, older than the journal, or not readable.
    """
    if driver := run.driver():
        raise RunLocked(f"{run.path}: is under way ({driver}); confirm it when it has ended")
    journal_sha256 = hashlib.sha256(run.journal_path.read_bytes()).hexdigest()
    path = run.path / "report" / "summary.json"
    remedy = f"write the report first: {report_command(run)}"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["journal_sha256"] != journal_sha256:
            raise RunRefused(f"{path}: is older than the journal of the run; {remedy}")
        answer = ConfirmationAnswer.model_validate(summary["confirmation"])
    except FileNotFoundError:
        raise RunRefused(f"{path}: is missing; {remedy}") from None
    except (ValueError, LookupError, TypeError) as error:
        raise RunRefused(f"{path}: does not say what to confirm ({_first_line(error)}); {remedy}") from error
    started = [str(record["started_at"]) for record in attempts(read_journal(run.journal_path).records)]
    last_day = max([run.document()["created_at"], *started])[:10]
    return Question(run, journal_sha256, last_day, answer.plans, answer.nothing_for)


def report_command(run: RunDirectory) -> str:
    """Return the command line that writes the report of a run."""
    words = ["python", "-m", "analysis.report", run.run_id]
    if run.path.parent.resolve() != (PROJECT / "results").resolve():
        words += ["--results", str(run.path.parent)]
    return shlex.join(words)


def earlier_confirmations(question: Question) -> list[str]:
    """Return the runs that confirm the same run already, oldest first."""
    wanted = question.confirmed.run_id
    found = []
    for path in sorted(question.confirmed.path.parent.glob("*/run.json")):
        document = RunDirectory(path.parent).document()
        if document.get("confirms", {}).get("run_id") == wanted:
            found.append(path.parent.name)
    return found


def experiment_of(question: Question, blocks: int | None) -> Confirmation:
    """Return the experiment that answers a question with at least one suspect.

    Raises
    ------
    RunRefused
        When a cell that would decide lies outside of what an experiment may hold.
    """
    run = question.confirmed
    try:
        return confirming_experiment(run.run_id, run.experiment(), question.plans, blocks)
    except ValidationError as error:
        raise RunRefused(f"{run.path}: a deciding cell is impossible: {_first_line(error)}") from error


def planned_trials(workplace: Workplace, question: Question, experiment: Confirmation) -> tuple[Trial, ...]:
    """Return the schedule on the hosts as the confirmed run knew them.

    Touches no host. One that the inventory does not have is planned as the run recorded it, and that is told.
    """
    listed = _listed_hosts(workplace, experiment)
    plans = []
    for name in dict.fromkeys(row.host for row in experiment.cells):
        document = question.confirmed.facts(name)
        host = listed.get(name) or _recorded_host(workplace, name, document)
        site = Site(host, HostFacts(document["facts"]))
        plans.append(plan_confirmation(experiment, planned_host(experiment, site)))
    return make_schedule(experiment, plans)


def _listed_hosts(workplace: Workplace, experiment: Confirmation) -> dict[str, Host]:
    try:
        return {host.name: host for host in read_hosts(workplace.inventory, experiment.hosts, PROJECT)}
    except InventoryError as error:
        if "selects no host" not in str(error):
            workplace.tell(str(error))
        return {}


def _recorded_host(workplace: Workplace, name: str, document: Mapping[str, Any]) -> Host:
    """Return a host that the inventory lacks, as far as planning needs it."""
    workplace.tell(
        f"{name}: is not in {workplace.inventory}; planned with the {len(document['facts']['cpus'])} CPUs "
        "that the run recorded, none reserved by server_cpus or load_cpus, which only the inventory tells; "
        "put the host there to measure it"
    )
    load_from = document.get("load_from", {}).get("host")
    return Host(name, document["machine"], address=name, load_from=load_from)


def confirm_run(workplace: Workplace, question: Question, experiment: Confirmation, command: str) -> Outcome:
    """Measure the deciding cells in a run of their own, beside the confirmed one.

    Raises
    ------
    FingerprintChanged
        When build or host are not what the confirmed run measured.
    RunRefused
        When no host can be measured.
    """
    run, document = question.confirmed, question.confirmed.document()
    wanted = dict.fromkeys(row.host for row in experiment.cells)
    sites, left_out = known_sites(workplace, experiment, wanted)
    _check_unchanged(question, document, sites)
    suspects = [plan.suspect.model_dump() for plan in question.plans if plan.suspect.host in sites]
    confirms = {
        "run_id": run.run_id,
        "seed": document["seed"],
        "journal_sha256": question.journal_sha256,
        "suspects": suspects,
    }
    text = document["experiment_text"]
    file = ExperimentFile(PROJECT / document["experiment_file"], text, experiment, parse_yaml(text))

    def planner(host: PlannedHost) -> HostPlan:
        return plan_confirmation(experiment, host)

    return measure_new_run(
        workplace, file, sites, left_out, planner=planner, command=command, confirms=confirms
    )


def _check_unchanged(question: Question, document: Mapping[str, Any], sites: Mapping[str, Site]) -> None:
    run = question.confirmed
    before = newest_fingerprints(document, read_journal(run.journal_path).records)
    found: list[Change] = []
    for name, site in sites.items():
        known, now = before[name], site.fingerprint()
        if _only_more_load_generators(run, name, known, site.facts):
            known = {**known, "load_generators": now["load_generators"]}
        found.extend(changes(known, now, f"hosts.{name}."))
    if found:
        listed = "\n".join(f"  {change}" for change in found)
        raise FingerprintChanged(
            f"{run.path}: what it measured is not what is there now:\n{listed}\n"
            "undo that, or run the experiment anew and confirm that run"
        )


def _only_more_load_generators(
    run: RunDirectory, host: str, known: Mapping[str, Any], facts: HostFacts
) -> bool:
    """Whether the load generators that the confirmed run had are all there as they were."""
    before: Mapping[str, Any] = (HostFacts(run.facts(host)["facts"]).manifest or {}).get(
        "load_generators", {}
    )
    now: Mapping[str, Any] = (facts.manifest or {}).get("load_generators", {})
    return bool(
        known["load_generators"] == digest(before)
        and all(now.get(tool) == generator for tool, generator in before.items())
    )


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0]
