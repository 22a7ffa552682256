"""What commands print: plans, confirmations, how far a run is."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from controller.cells import Trial, core_count
from controller.confirmation import Confirmation, plan_lines, role_lines
from controller.confirmation_run import Question, earlier_confirmations, planned_trials
from controller.experiment import ExperimentFile
from controller.journal import utc_now
from controller.plan import HostPlan, joined_machines
from controller.progress import duration, reasons_text
from controller.runs import Workplace
from controller.schedule import expected_duration_s
from controller.standing import HostStanding


def tell_plan(
    workplace: Workplace, file: ExperimentFile, plans: Sequence[HostPlan], trials: Sequence[Trial]
) -> None:
    """Tell the user what a plan measures on each host, and how long it takes."""
    for each in plans:
        for dropped in each.dropped:
            workplace.tell(f"{dropped.host}: {dropped.cells} cells dropped: {dropped.reason}")
        count = sum(trial.host == each.host.name for trial in trials)
        assumed = " (assumed)" if each.host.assumed else ""
        cores = core_count(len(each.host.pool.cpus))
        workplace.tell(f"{each.host.name}: {cores}{assumed}, {len(each.cells)} cells, {count} trials")
        if idle := sum(cell.processes > cell.concurrency for cell in each.cells):
            workplace.tell(
                f"{each.host.name}: {idle} of these cells have more processes than requests in flight, "
                "so that some idle; raise load.concurrency"
            )
    blocks = file.experiment.design.blocks
    expected_s = expected_duration_s(file.experiment, trials, joined_machines(plans))
    workplace.tell(f"{len(trials)} trials in {blocks} blocks, about {duration(expected_s)}")


def print_confirmation(workplace: Workplace, question: Question, experiment: Confirmation) -> None:
    """Print what a confirmation measures and why; tell what speaks against it."""
    for line in plan_lines(question.plans):
        typer.echo(line)
    trials = planned_trials(workplace, question, experiment)
    design, expected_s = experiment.design, expected_duration_s(experiment, trials)
    typer.echo(f"{len(trials)} trials in {design.blocks} blocks, about {duration(expected_s)}")
    for line in role_lines(trials):
        typer.echo(line)
    typer.echo(f"seed {design.seed}, from that of {question.confirmed.run_id} and its name")
    wanted = max(plan.blocks for plan in question.plans)
    if design.blocks < wanted:
        workplace.tell(f"the report asks for {wanted} blocks; with fewer the verdict may stay open")
    if question.last_day >= utc_now()[:10]:
        workplace.tell(
            f"{question.confirmed.run_id} was measured until today ({question.last_day}, UTC): "
            "no peak is REAL before it is confirmed on another day"
        )
    if earlier := earlier_confirmations(question):
        workplace.tell(
            f"confirmed before by {', '.join(earlier)}: a peak that is tried until it shows proves nothing"
        )


def print_standings(standings: Sequence[HostStanding]) -> None:
    """Print how far a run is, a line a host."""
    for standing in standings:
        line = f"{standing.host:<20} {standing.valid}/{standing.scheduled} valid, {standing.missing} missing"
        if standing.tried:
            line += f" ({standing.tried} of them tried in vain)"
        if standing.reasons:
            line += f"; attempts that do not count: {reasons_text(standing.reasons)}"
        typer.echo(line)
        if standing.missing and standing.last:
            typer.echo(f"  last: {standing.last}")
