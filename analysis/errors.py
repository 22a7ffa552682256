"""Errors of the analysis.

AnalysisError
└── RunUnreadable    a results directory that is missing, foreign or of another schema
"""

from __future__ import annotations


class AnalysisError(Exception):
    """Root of all errors that the analysis raises on purpose."""


class RunUnreadable(AnalysisError):
    """The results directory cannot be read as a run; the message says what to do."""
