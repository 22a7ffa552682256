"""The load of a trial whose server runs on another host: warm up, wait for the word, measure, report."""

from __future__ import annotations

from typing import Any, Callable, Union

from agent import preparation, probe, snapshot
from agent.dialogue import LoadRequest, Report, Warm, await_order
from agent.frame import Frame
from agent.lease import Lease
from agent.load.report import tool
from agent.loading import LocalLoad, http_url
from agent.problems import TrialProblem
from agent.records import Failure, Record, Timings
from agent.windows import Windows


def perform(document: Any, lease: Lease, say: Callable[[Record], None]) -> Union[Report, Failure]:
    """Make the load that a LoadRequest asks for."""
    return LoadRun(LoadRequest.from_json(document), lease, say).run()


class LoadRun:
    """A load under way.

    Parameters
    ----------
    request
        Which load, on which server.
    lease
        How long it may take.
    say
        Where events before the report go.
    """

    def __init__(self, request: LoadRequest, lease: Lease, say: Callable[[Record], None]) -> None:
        self._request = request
        self._lease = lease
        self._say = say
        self._frame = Frame(request, lease, say, {"the load generator": request.load.path})

    def run(self) -> Union[Report, Failure]:
        """Load the server; return the Report, or the Failure that says why there is none.

        Either way nothing of it runs or lies about on this host any more, and the lock is free.
        """
        return self._frame.run(self._measured)

    def _measured(self) -> Report:
        request, frame = self._request, self._frame
        url = http_url(request.address, request.port, request.url_path)
        load = LocalLoad(
            request.load,
            tool(request.load.tool),
            url,
            cpus=request.load_cpus,
            work_dir=frame.work_dir,
            environment=frame.environment,
            lease=self._lease,
        )
        with frame.step("prepare"):
            preparation.write_request_body(request, frame.environment)
        with frame.step("ready"):
            self._require_answer(url)
        with frame.step("warmup"):
            load.warm_up()
        self._say(Warm())
        await_order(self._lease, self._say, "go")
        with frame.step("measure"):
            before = snapshot.system(request.load_cpus)
            loaded = load.measure(Windows(None))
            system = snapshot.system_between(before, snapshot.system(request.load_cpus))
        return Report(
            trial_id=request.trial_id,
            attempt=request.attempt,
            report=loaded.report,
            asked_s=loaded.asked_s,
            counters=loaded.counters,
            system=system,
            timings_s=Timings(),
        )

    def _require_answer(self, url: str) -> None:
        """Raise TrialProblem unless the server answers with what is expected, seen from here."""
        request = self._request
        try:
            body = preparation.request_body(self._frame.work_dir, request.load)
            answer = probe.http(request.address, request.port, request.url_path, request.load.keepalive, body)
        except (OSError, ValueError) as error:
            raise TrialProblem(
                "not_ready",
                f"the server does not answer {url} from here ({error}); open the way, or set"
                " fcgi_sweep_address of the server's host to the address by which this one can reach it",
            ) from error
        wrong = answer.differs_from(request.expected_bytes, request.expected_sha256)
        if wrong:
            raise TrialProblem("not_ready", f"{url} answers with {wrong}: another server listens there")
