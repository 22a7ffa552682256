"""The tables of evidence: what the numbers rest on."""

from __future__ import annotations

import json
from typing import Any

from analysis.findings import Findings
from analysis.page import Table, table_of, value
from analysis.wording import rps_text

ROWS_SHOWN = 300
"""Longer lists are cut on the page, with a note; trials.csv has them all."""


def evidence(findings: Findings) -> list[Table]:
    """Return what the numbers rest on."""
    return [
        _status_table(findings),
        _invalid_table(findings),
        _gate_table(findings),
        _steadiness_table(findings),
        *([_load_host_table(findings)] if findings.attempts["load_host"].notna().any() else []),
        _ceiling_table(findings),
        _facts_table(findings),
        _fingerprint_table(findings),
        _run_table(findings),
        _damage_table(findings),
    ]


def _status_table(findings: Findings) -> Table:
    counts = findings.attempts.groupby(["host", "status"], observed=True).size().to_dict()
    rows = []
    for host in findings.hosts:
        scheduled = int((findings.run.schedule["host"] == host).sum())
        statuses = [
            value(int(counts.get((host, status), 0)), "d") for status in ("valid", "invalid", "failed")
        ]
        rows.append([value(host), value(scheduled, "d"), *statuses])
    columns = ["host", "trials scheduled", "attempts valid", "invalid", "failed"]
    return Table("attempts", "Trials and attempts", columns, rows)


def _invalid_table(findings: Findings) -> Table:
    attempts = findings.attempts
    bad = attempts[attempts["status"] != "valid"]
    note = "Kept and tried again, never dropped; never part of a statistic."
    if len(bad) > ROWS_SHOWN:
        note += f" The first {ROWS_SHOWN} of {len(bad)}; trials.csv has all."
    columns = {
        "trial": ("trial", ""),
        "attempt": ("attempt", "d"),
        "role": ("role", ""),
        "handler": ("handler", ""),
        "processes": ("processes", "d"),
        "status": ("status", ""),
        "goodput_rps": ("goodput (requests/s)", ",.0f"),
        "reason": ("reason", ""),
    }
    return table_of(bad.head(ROWS_SHOWN), "invalid", "Invalid and failed attempts", columns, note)


def _gate_table(findings: Findings) -> Table:
    asked = findings.attempts["gates"].value_counts()
    failed = findings.attempts["failed_gates"].value_counts()
    applied: dict[str, int] = {}
    missed: dict[str, int] = {}
    for names, count in asked.items():
        for name in filter(None, str(names).split(",")):
            applied[name] = applied.get(name, 0) + int(count)
    for names, count in failed.items():
        for name in filter(None, str(names).split(", ")):
            missed[name] = missed.get(name, 0) + int(count)
    rows = [
        [value(name), value(applied[name], "d"), value(missed.get(name, 0), "d")] for name in sorted(applied)
    ]
    return Table("gates", "Gates", ["gate", "attempts checked", "attempts that failed it"], rows)


def _steadiness_table(findings: Findings) -> Table:
    columns = {
        "host": ("host", ""),
        "handler": ("handler", ""),
        "attempts": ("attempts watched", "d"),
        "steady": ("steady", "d"),
        "warming_up": ("climbed", "d"),
        "slowing_down": ("fell", "d"),
        "steady_share": ("share steady", ".2f"),
        "not_watched": ("not watched", "d"),
    }
    note = (
        "Completed requests by window, second half against first half: an attempt whose rate climbs or"
        " falls beyond"
        " its scatter is invalid and tried again."
    )
    return table_of(findings.steadiness, "steadiness", "Steady while it was measured", columns, note)


def _load_host_table(findings: Findings) -> Table:
    attempts = findings.attempts[findings.attempts["load_host"].notna()]
    clock = "load_host_clock_"
    medians = {
        "load_cores": ("load generator (cores busy)", ".2f"),
        "load_host_idle_share": ("load host idle (share)", ".2f"),
        "load_host_steal_share": ("load host steal (share)", ".4f"),
        "load_host_time_wait": ("load host sockets in TIME_WAIT", ",.0f"),
        "system_idle_share": ("server idle (share)", ".2f"),
        "system_steal_share": ("server steal (share)", ".4f"),
        f"{clock}offset_s": ("clock offset (s)", "+.4f"),
        f"{clock}uncertainty_s": ("± (s)", ".4f"),
    }
    window_s = attempts["system_window_s"].where(attempts["system_window_s"] > 0)
    busy = attempts.assign(load_cores=(attempts["load_cpu_user_s"] + attempts["load_cpu_sys_s"]) / window_s)
    groups = busy.groupby(["host", "load_host"], observed=True)
    frame = groups[list(medians)].median().assign(attempts=groups.size()).reset_index()
    columns = {
        "host": ("server", ""),
        "load_host": ("load from", ""),
        "attempts": ("attempts", "d"),
    } | medians
    note = (
        "Medians over attempts. The offset is the load host's wall clock minus the server's; rates do"
        " not depend on"
        " it, since each host times with its own monotonic clock."
    )
    return table_of(frame, "load-hosts", "Load from another host: both sides", columns, note)


def _ceiling_table(findings: Findings) -> Table:
    rows = [
        [value(host), value(rps_text(findings.ceilings[host]))]
        for host in findings.hosts
        if host in findings.ceilings
    ]
    note = "lighttpd alone with a static file of the same size: what server and load generator can do at all."
    return Table("ceilings", "Static ceiling", ["host", "goodput"], rows, note)


_FACTS = (
    "cpu_model", "cores", "sockets", "threads_per_core", "memory_bytes", "arch", "os_release", "kernel",
    "governor", "turbo", "virtualisation", "python", "limits", "sysctls",
)  # fmt: skip


def _facts_table(findings: Findings) -> Table:
    hosts = [host for host in findings.hosts if host in findings.run.hosts]
    documents = [findings.run.hosts[host] for host in hosts]
    rows = [
        [value("label"), *(value(document.get("label")) for document in documents)],
        [value("machine"), *(value(document.get("machine")) for document in documents)],
    ]
    for fact in _FACTS:
        contents = [document.get("facts", {}).get(fact) for document in documents]
        if any(content is not None for content in contents):
            rows.append([value(fact), *(_plain(content) for content in contents)])
    return Table("facts", "Hosts", ["fact", *hosts], rows)


def _plain(content: Any) -> Any:
    return value(json.dumps(content) if isinstance(content, dict | list) else content)


def _fingerprint_table(findings: Findings) -> Table:
    fingerprints = findings.run.meta.get("fingerprint", {}).get("hosts", {})
    names = sorted({name for prints in fingerprints.values() for name in prints})
    hosts = [host for host in findings.hosts if host in fingerprints]
    rows = [[value(name), *(_plain(fingerprints[host].get(name)) for host in hosts)] for name in names]
    return Table("fingerprints", "Builds", ["fingerprint", *hosts], rows)


def _run_table(findings: Findings) -> Table:
    run = findings.run
    git = run.meta.get("git", {})
    rows = [
        ("run", run.run_id),
        ("started", run.meta.get("created_at")),
        ("command", run.meta.get("command")),
        ("commit", f"{git.get('commit')}{' (changed working copy)' if git.get('dirty') else ''}"),
        ("seed", str(run.meta.get("seed"))),
        ("blocks", str(run.schedule["block"].nunique())),
        ("trials scheduled", str(len(run.schedule))),
        ("versions", json.dumps(run.meta.get("versions", {}))),
        ("journal sha256", run.journal.sha256),
        ("experiment", json.dumps(run.meta.get("experiment", {}))),
    ]
    return Table("run", "Run", ["what", "value"], [[value(name), value(content)] for name, content in rows])


def _damage_table(findings: Findings) -> Table:
    damage = findings.run.journal.damage
    note = f"The first {ROWS_SHOWN} of {len(damage)}." if len(damage) > ROWS_SHOWN else ""
    rows = [[value(item.line, "d"), value(item.reason)] for item in damage[:ROWS_SHOWN]]
    return Table("damage", "Damaged lines of the journal", ["line", "what is wrong"], rows, note)
