"""Epochs of a run: what it was when it began, what it is now, and whether it may go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controller.catalogue import load_catalogue
from controller.errors import ExperimentError, FingerprintChanged
from controller.experiment import Experiment, read_experiment
from controller.fingerprint import Change, changes
from controller.journal import Journal, current_epoch, utc_now
from controller.run_directory import PROJECT, RunDirectory


def settle_changes(
    run: RunDirectory, journal: Journal, now: Mapping[str, dict[str, Any]], *, new_epoch: bool
) -> str:
    """Compare a run with what it began with, and begin an epoch where that is wanted.

    Parameters
    ----------
    run, journal
        The run, its journal open for writing.
    now : mapping of str to dict
        Fingerprints of its hosts, by name.
    new_epoch : bool
        Go on although something changed.

    Returns
    -------
    str
        What changed, for the user; empty where nothing did.

    Raises
    ------
    FingerprintChanged
        Something changed, and no new epoch was asked for.
    """
    document = run.document()
    found = list(_experiment_changes(document))
    before = newest_fingerprints(document, journal.records)
    for name, fingerprint in now.items():
        found.extend(changes(before[name], fingerprint, f"hosts.{name}."))
    found = [change for change in found if not _accepted(change, journal)]
    if not found:
        return ""
    listed = "\n".join(f"  {change}" for change in found)
    if not new_epoch:
        raise FingerprintChanged(
            f"{run.path}: not what the run began with:\n{listed}\n"
            "undo that, or start a new run, or go on deliberately with --new-epoch; the report shows the seam"
        )
    epoch = current_epoch(journal.records) + 1
    record = {
        "kind": "epoch",
        "epoch": epoch,
        "at": utc_now(),
        "changes": [change.to_json() for change in found],
        "hosts": dict(now),
    }
    journal.append(record)
    return f"epoch {epoch} begins:\n{listed}"


def newest_fingerprints(
    document: Mapping[str, Any], records: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return what each host of a run was when its last epoch began."""
    fingerprints: dict[str, dict[str, Any]] = dict(document["fingerprint"]["hosts"])
    for record in records:
        if record["kind"] == "epoch":
            fingerprints.update(record.get("hosts", {}))
    return fingerprints


def _accepted(change: Change, journal: Journal) -> bool:
    """Whether an earlier epoch began with this change of the experiment file."""
    return change.what.startswith("experiment.") and any(
        change.to_json() in record["changes"] for record in journal.records if record["kind"] == "epoch"
    )


def _experiment_changes(document: Mapping[str, Any]) -> Sequence[Change]:
    path = PROJECT / document["experiment_file"]
    if "confirms" in document or not path.exists():  # the file asks what the confirmed run asked
        return ()
    try:
        now = read_experiment(path, load_catalogue()).experiment.normalised()
        before = Experiment.model_validate(document["experiment"]).normalised()  # older runs lack newer keys
    except ExperimentError as error:
        return (Change("experiment.file", "valid", error.problems[0]),)
    return changes(before, now, "experiment.")
