from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from agent import handler_stats, snapshot
from fcgi_handlers import counters


@pytest.mark.usefixtures("usr1_restored")
def test_a_handler_that_does_not_answer_has_unknown_context_switches_not_those_of_before(
    tmp_path: Path,
) -> None:
    counters.shared(str(tmp_path))
    own = frozenset({os.getpid()})
    answered = snapshot.group(own, handler_stats.read_with_usage(tmp_path, own))
    assert answered.ctx_voluntary is not None
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    silent = snapshot.group(own, handler_stats.read_with_usage(tmp_path, own))
    assert silent.ctx_voluntary is None
    assert snapshot.group_between(answered, silent).ctx_voluntary is None
    assert snapshot.group_between(answered, silent).ctx_involuntary is None
