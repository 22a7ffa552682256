"""The one exception of the lab."""

from __future__ import annotations


class LabError(Exception):
    """Something about the lab is wrong; the message names the host, the fact and the next step."""
