"""The report for machines: `summary.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims import TEXTS
from analysis.confirmation import confirmation_document
from analysis.contents import banners
from analysis.findings import Findings


def summary(findings: Findings, groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the report for machines.

    Returns
    -------
    dict
        ``schema`` 1: run, verdicts, curves, comparisons; rates in requests/s, differences in percent.
    """
    run = findings.run
    return {
        "schema": 1,
        "run_id": run.run_id,
        "synthetic": run.synthetic,
        "journal_sha256": run.journal.sha256,
        "indifference": run.indifference,
        "damaged_lines": len(run.journal.damage),
        "banners": banners(findings),
        "verdicts": {group["title"]: group["lines"] for group in groups},
        "cells": records(findings.cells),
        "best": [
            {
                "host": curve.host,
                "setting": curve.setting,
                "handler": curve.handler,
                "blocks": judged.blocks,
                "best_set": list(judged.best_set),
                "recommended": judged.recommended,
                "left_out": list(judged.left_out),
                "residual_sd_percent": number(100 * judged.residual_sd),
                "reason": judged.reason,
            }
            for curve, judged in zip(findings.curves, findings.best, strict=True)
        ],
        "ratios": records(findings.ratios),
        "claims": [dataclasses.asdict(item) | {"text": TEXTS[item.number]} for item in findings.claims],
        "peaks": [_plain_numbers(dataclasses.asdict(item)) for item in findings.peaks],
        "confirmation": _plain_numbers(confirmation_document(findings)),
        "models": [
            {"host": host, "setting": setting, "handler": handler} | _plain_numbers(dataclasses.asdict(item))
            for (host, setting, handler), item in findings.models.items()
        ],
        "drift": [_plain_numbers(dataclasses.asdict(item)) for item in findings.drifts.values()],
        "odd_cells": [dataclasses.asdict(item) for item in findings.odd],
        "counters": records(findings.counters),
        "limits": records(findings.limits),
        "best_against_best": [
            {
                "host": item.host,
                "setting": item.setting,
                "handler": item.handler,
                "reference": item.reference,
                "choice": item.best.choice,
                "reference_choice": item.best.reference_choice,
                "ratio": number(np.exp(item.best.log_ratio.estimate)),
                "low": None if item.best.log_ratio.low is None else number(np.exp(item.best.log_ratio.low)),
                "high": None
                if item.best.log_ratio.high is None
                else number(np.exp(item.best.log_ratio.high)),
                "blocks": item.best.log_ratio.n,
                "verdict": item.best.verdict,
                "blocks_needed": item.best.blocks_needed,
            }
            for item in findings.comparisons
            if item.best is not None
        ],
    }


def _plain_numbers(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _plain_numbers(item) for name, item in content.items()}
    if isinstance(content, list | tuple):
        return [_plain_numbers(item) for item in content]
    return number(content)


def number(content: Any) -> Any:
    """Return a number that JSON can hold: NaN becomes null."""
    if isinstance(content, float | np.floating):
        return None if not np.isfinite(content) else float(content)
    return content.item() if isinstance(content, np.generic) else content


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a DataFrame as JSON records."""
    return list(_records(frame))


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in frame.astype(object).to_dict(orient="records"):
        yield {str(name): number(content) for name, content in row.items()}
