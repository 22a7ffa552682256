"""What tests make of a trial's gates: some of them tell more of the machine than of the trial."""

from __future__ import annotations

from typing import Any

from agent.records import Result

WEATHER = frozenset({"steady", "steal", "completed", "load_cpu", "littles_law"})
"""Gates that a short trial may fail on a machine that does much else, or whose handlers outrun its client."""


def failed_gates(result: Any) -> dict[str, str]:
    """Return the details of the gates that failed, but for the weather; of a Result or of its JSON."""
    if not isinstance(result, dict):
        assert isinstance(result, Result), result
        result = result.to_json()
    failed = (gate for gate in result["gates"] if not gate["passed"] and gate["name"] not in WEATHER)
    return {gate["name"]: gate["detail"] for gate in failed}
