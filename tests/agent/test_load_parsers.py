"""The parsers read what the tools really printed; `data/` holds the captured outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.load import report
from agent.load.report import LoadError, LoadReport, Order, Output

DATA = Path(__file__).parent / "data"
ORDER = Order("/usr/bin/x", "http://127.0.0.1:8080/hello", 8, 5, keepalive=True, csv=Path("/tmp/load.csv"))


def parsed(name: str, status: int = 0) -> LoadReport:
    table = DATA / f"{name}.csv"
    output = Output(
        text=(DATA / f"{name}.txt").read_text(),
        csv=table.read_text() if table.exists() else "",
        status=status,
    )
    return report.tool(name.partition("_")[0]).parse(output)


def test_every_module_of_the_package_is_a_tool() -> None:
    assert {"ab", "h2load", "wrk"} <= set(report.names())
    for name in report.names():
        assert report.tool(name).name == name


def test_an_unknown_tool_is_refused_by_name() -> None:
    with pytest.raises(LoadError, match="no load generator is called 'siege'; this agent knows ab, "):
        report.tool("siege")
    with pytest.raises(LoadError, match="'report'"):
        report.tool("report")


def test_ab_gets_its_request_limit_after_its_time_limit() -> None:
    command = report.tool("ab").command(ORDER)
    assert command.index("-t") < command.index("-n")
    assert "-k" in command
    assert command[-1] == ORDER.url


def test_a_body_makes_every_request_a_post(tmp_path: Path) -> None:
    body = tmp_path / "request.body"
    body.write_bytes(b"x" * 10)
    posting = replace(ORDER, body=body)
    ab = report.tool("ab").command(posting)
    assert ab[ab.index("-p") + 1] == str(body)
    h2load = report.tool("h2load").command(posting)
    assert h2load[h2load.index("-d") + 1] == str(body)
    wrk = report.tool("wrk").command(posting)
    script = Path(wrk[wrk.index("-s") + 1]).read_text()
    assert f'io.open("{body}", "rb")' in script
    assert 'wrk.method, wrk.body = "POST"' in script
    for command in (ab, h2load, wrk):
        assert command[-1] == ORDER.url


@pytest.mark.parametrize(("asked_s", "told"), [(0.2, 1), (1, 1), (2.0, 2), (2.5, 3)])
def test_fractions_of_a_second_are_rounded_up(asked_s: float, told: int) -> None:
    assert report.whole_seconds(asked_s) == told


def test_only_the_projects_own_client_takes_fractions_of_a_second() -> None:
    assert [name for name in report.names() if report.tool(name).takes_fractions] == ["fcgi"]


def test_ab_normal() -> None:
    found = parsed("ab_normal")
    assert (found.complete, found.failed, found.non_2xx, found.keepalive) == (2599, 0, 0, 0)
    assert (found.measured_s, found.document_bytes, found.body_bytes) == (2.001, 1024, 2661376)
    assert found.mean_ms is not None
    low, high = found.mean_ms
    # ab's own figure: concurrency x time / requests
    assert low < 8 * 2001 / 2599 < high
    assert (found.latency_ms.p99, found.latency_ms.max) == (11.574, 18.203)


def test_ab_keepalive() -> None:
    assert parsed("ab_keepalive").keepalive == parsed("ab_keepalive").complete == 2728


def test_ab_keepalive_silently_off() -> None:
    found = parsed("ab_keepalive_off")
    assert (found.complete, found.failed, found.keepalive) == (2968, 0, 0)


def test_ab_all_non_2xx_are_no_failures_to_ab_and_yet_counted() -> None:
    found = parsed("ab_non_2xx")
    assert (found.complete, found.failed, found.non_2xx, found.document_bytes) == (9298, 0, 9298, 341)


def test_ab_refused_connections_are_complete_requests_to_ab_and_yet_failures() -> None:
    found = parsed("ab_refused")
    assert found.complete == 22738
    assert found.failed >= found.complete
    assert found.length_failures == 0


def test_ab_short_run_says_its_real_time() -> None:
    assert (parsed("ab_short").measured_s, parsed("ab_short").complete) == (0.202, 300)


def test_ab_without_a_percentile_table_says_nothing_about_latency() -> None:
    text = (DATA / "ab_normal.txt").read_text()
    found = report.tool("ab").parse(Output(text=text, csv="", status=0))
    assert found.mean_ms is None
    assert found.latency_ms.p50 is None


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("ab_timeouts", 119, "The timeout specified has expired"),
        ("ab_killed", -9, "ab ended with status -9"),
        ("wrk_killed", -9, "wrk ended with status -9: no output"),
        ("wrk_refused", 1, "unable to connect to 127.0.0.1:8099 Connection refused"),
        ("h2load_killed", -9, "h2load ended with status -9"),
        ("h2load_timeouts", -6, "Assertion"),
    ],
)
def test_a_run_without_an_end_is_an_error_that_quotes_the_tool(name: str, status: int, said: str) -> None:
    with pytest.raises(LoadError) as caught:
        parsed(name, status)
    assert said in str(caught.value)


def test_wrk_normal() -> None:
    found = parsed("wrk_normal")
    assert (found.complete, found.failed, found.non_2xx, found.measured_s) == (3699, 0, 0, 2.0)
    assert (found.latency_ms.mean, found.latency_ms.p50, found.latency_ms.p99) == (4.40, 4.16, 11.83)
    assert found.latency_ms.max == 16.09
    assert found.read_bytes == round(4.14 * 1024**2)
    assert found.keepalive is None


def test_wrk_non_2xx_and_microseconds() -> None:
    found = parsed("wrk_non_2xx")
    assert (found.complete, found.non_2xx) == (31137, 31137)
    assert found.latency_ms.p50 == pytest.approx(0.211)


def test_wrk_counts_silently_closed_connections_as_errors() -> None:
    assert (parsed("wrk_keepalive_off").complete, parsed("wrk_keepalive_off").failed) == (841, 841)


def test_wrk_stopped_early_says_its_real_time() -> None:
    assert parsed("wrk_short").measured_s == 1.0


def test_wrk_without_answers_has_no_latency() -> None:
    found = parsed("wrk_timeouts")
    assert (found.complete, found.mean_ms, found.latency_ms.mean) == (0, None, None)


def test_h2load_normal() -> None:
    found = parsed("h2load_normal")
    assert (found.complete, found.failed, found.non_2xx, found.measured_s) == (2199, 0, 0, 2.01)
    assert (found.latency_ms.mean, found.latency_ms.max, found.latency_ms.p99) == (7.26, 19.66, None)
    assert found.body_bytes == 2252800


def test_h2load_non_2xx() -> None:
    assert (parsed("h2load_non_2xx").complete, parsed("h2load_non_2xx").non_2xx) == (9706, 9706)


@pytest.mark.parametrize("name", ["h2load_refused", "h2load_keepalive_off"])
def test_h2load_without_answers_is_an_empty_report(name: str) -> None:
    assert (parsed(name).complete, parsed(name).non_2xx, parsed(name).mean_ms) == (0, 0, None)


def test_h2load_refuses_a_connection_per_request() -> None:
    with pytest.raises(LoadError, match="h2load always keeps its connections"):
        report.tool("h2load").command(Order("h2load", "http://x/", 8, 1, keepalive=False, csv=Path("c")))
