"""flup's multiplexed server as published.

Behind lighttpd it leaks a thread and a descriptor for every second request or so, and stops answering when
it has used up its descriptors; `multiplexed` is the same server with that mended. It stays here as the
thing that was published, and as the proof that a trial of a broken handler comes out as invalid.
"""

from __future__ import annotations

from fcgi_handlers.flup_server import ThreadedServer
from fcgi_handlers.model import Count, Model
from fcgi_handlers.workload import Workload


def serve(workload: Workload, count: Count) -> None:
    """Serve with a thread for every request, and a lock around every record."""
    ThreadedServer(workload, count(), multiplexed=True).run()


MODEL = Model(
    summary="a thread for every request (flup as published: leaks threads and descriptors)",
    serve=serve,
    peak_in_process=None,
    multiplexes=True,
)
