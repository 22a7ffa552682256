"""What the report knows of handlers by their names."""

from __future__ import annotations

THREADED, MULTIPLEXED = "threaded", "multiplexed"
"""The two handlers of the 2007 study."""

REFERENCE_HANDLER = THREADED
"""What the others are compared with."""

LIMIT = "limit"
"""A responder without an interpreter: the ceiling of the FastCGI path, no rival of the others."""

ONE_AT_A_TIME = frozenset({"serial", "prefork", LIMIT})
"""A process of these serves one request at a time, where the host's facts do not say so."""
