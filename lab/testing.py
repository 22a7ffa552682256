"""What tests need to bring up labs of their own."""

from __future__ import annotations

import os
import string
from pathlib import Path

from lab import plan, preflight
from lab.errors import LabError
from lab.fleet import Lab
from lab.state import state_home

_DIGITS = string.digits + string.ascii_lowercase


def why_no_namespaces() -> str | None:
    """Tell why hosts made of namespaces cannot be had here; None when they can."""
    try:
        preflight.require(preflight.NEEDED, preflight.NEEDED_AS_ROOT)
    except LabError as error:
        return str(error)
    return preflight.namespaces_refused()


def own_name(prefix: str) -> str:
    """Name for a lab of this process: `prefix` (at most two letters) and the process id in base 36."""
    number, digits = os.getpid(), ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return plan.check_name(f"{prefix}{digits}")


def remove_stale(prefix: str) -> list[str]:
    """Take down the labs that test runs with this prefix left behind when they were killed.

    Returns
    -------
    list of str
        Their names.
    """
    stale: list[str] = []
    for path in state_home().glob(f"{prefix}*"):
        digits = path.name.removeprefix(prefix)
        if path.is_dir() and digits and set(digits) <= set(_DIGITS):
            pid = int(digits, 36)
            if 0 < pid < 2**22 and not Path(f"/proc/{pid}").exists():
                Lab(path.name).down()
                stale.append(path.name)
    return stale
