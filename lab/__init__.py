"""Throw-away test hosts on this machine."""

from lab.errors import LabError
from lab.fleet import Lab
from lab.host import LabHost

__all__ = ["Lab", "LabError", "LabHost"]
