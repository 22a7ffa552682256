from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from agent import procfs

STAT = (
    "4711 (a (b) c) S 17 4711 17 0 -1 4194560 1 2 3 4 150 250 0 0 20 0 6 0 98765 1000 512"
    " 18446744073709551615 1 1 0 0 0 0 0 16781312 90112 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0"
)
PROC_STAT = """cpu  100 1 50 1000 20 3 4 22 7 0
cpu0 50 1 25 500 10 1 2 11 0 0
cpu1 50 0 25 500 10 2 2 11 7 0
intr 1 2 3
ctxt 123456
btime 1
"""
NETSTAT = """TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 0 7 9
IpExt: InNoRoutes InOctets
IpExt: 1 2
"""
SOCKSTAT = """sockets: used 200
TCP: inuse 5 orphan 0 tw 321 alloc 7 mem 1
UDP: inuse 1 mem 0
"""
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 424242 1
   1: 0100007F:1F90 0100007F:8000 01 00000000:00000000 00:00000000 00000000  1000        0 424243 1
"""


def test_a_stat_line_with_brackets_and_blanks_in_the_command() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    found = procfs.parse_stat(STAT)
    assert (found.state, found.ppid, found.threads, found.started_ticks) == ("S", 17, 6, 98765)
    assert (found.cpu_user_s, found.cpu_sys_s) == (150 / ticks, 250 / ticks)
    assert found.rss_bytes == 512 * os.sysconf("SC_PAGE_SIZE")


def test_cpu_time_does_not_count_guests_twice() -> None:
    found = procfs.parse_cpu_time(PROC_STAT, {0, 1})
    assert found == procfs.CpuTime(total=1200, idle=1020, steal=22, ctx=123456)


def test_cpu_time_is_that_of_the_cpus_asked_for() -> None:
    found = procfs.parse_cpu_time(PROC_STAT, [1])
    assert found == procfs.CpuTime(total=600, idle=510, steal=11, ctx=123456)


def test_a_container_that_numbers_its_cpus_anew_has_the_time_of_all_it_shows() -> None:
    assert procfs.parse_cpu_time(PROC_STAT, [4, 5]) == procfs.parse_cpu_time(PROC_STAT, [0, 1])
    assert procfs.parse_cpu_time(PROC_STAT, [1, 5]) == procfs.parse_cpu_time(PROC_STAT, [0, 1])


def test_a_command_line_in_another_encoding_can_be_written_down() -> None:
    command = [sys.executable, "-c", "input(chr(10))", b"\xff"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it runs
        said = procfs.command(process.pid)
        process.communicate(b"\n")
    assert said.encode().endswith(" \ufffd".encode())


def test_tables_and_sockets() -> None:
    assert procfs.parse_table(NETSTAT, "TcpExt") == {
        "SyncookiesSent": 0,
        "ListenOverflows": 7,
        "ListenDrops": 9,
    }
    assert procfs.parse_time_wait(SOCKSTAT) == 321
    assert procfs.parse_listeners(TCP) == [procfs.Listener(port=8080, inode=424242)]


def test_environ_keeps_equal_signs_in_values() -> None:
    assert procfs.parse_environ(b"A=1=2\0B=\0broken\0") == {"A": "1=2", "B": ""}


@pytest.mark.parametrize(
    ("text", "model", "mhz"),
    [
        (
            "model name\t: AMD  EPYC\ncpu MHz\t\t: 2000.0\n\nmodel name\t: x\ncpu MHz\t\t: 3000\n",
            "AMD EPYC",
            2500.0,
        ),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "unknown", None),
    ],
)
def test_cpuinfo(text: str, model: str, mhz: float | None) -> None:
    assert procfs.parse_cpuinfo(text) == (model, mhz)


def test_the_real_kernel_is_understood() -> None:
    own = procfs.stat(os.getpid())
    assert own is not None and own.ppid == os.getppid()
    assert procfs.is_running(os.getpid())
    assert procfs.environ(os.getpid()).get("PATH") is not None
    time.sleep(0.001)
    voluntary, _ = procfs.parse_switches((procfs.PROC / "self/status").read_text())
    assert voluntary > 0
    assert procfs.parse_cpu_time((procfs.PROC / "stat").read_text(), os.sched_getaffinity(0)).total > 0
    assert "ListenDrops" in procfs.parse_table((procfs.PROC / "net/netstat").read_text(), "TcpExt")
    assert "PassiveOpens" in procfs.parse_table((procfs.PROC / "net/snmp").read_text(), "Tcp")
    assert procfs.parse_time_wait((procfs.PROC / "net/sockstat").read_text()) >= 0
    assert procfs.parse_run_queue_wait((procfs.PROC / "self/schedstat").read_text()) >= 0


def test_the_owner_of_a_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert f"process {os.getpid()} (" in procfs.listener_owner(server.getsockname()[1])


def test_a_process_that_does_not_exist_says_nothing() -> None:
    assert procfs.stat(2**22 + 1) is None
    assert not procfs.is_running(2**22 + 1)
    assert procfs.command(2**22 + 1) == ""
    assert procfs.environ(2**22 + 1) == {}
