"""A real process that speaks the agent's protocol and measures nothing.

It reads `<prefix>/behaviour.json`: {"facts": {}, "trials": {"<handler>x<processes>": [step]}, "delay_s": 0}.
A step is "ok", "invalid", "die", "silent", "garbage", "old", "hang" or {"fail": kind}; the last one repeats.
With a load from another host it says `ready` and takes orders; as the load host's agent it follows "load",
one of "ok", "die", "silent" or {"fail": kind}. Every trial leaves a line in `<prefix>/trials.log`, so that
tests can count what was really run.
"""

import json
import os
import pathlib
import select
import sys
import time

PREFIX = pathlib.Path(sys.argv[0]).parent
SYSTEM = {
    "window_s": 1.0,
    "steal_share": 0.0,
    "idle_share": 0.0,
    "listen_drops": 0,
    "listen_overflows": 0,
    "passive_opens": 1,
    "time_wait": 0,
    "ctx_total": 1,
    "load1": 0.1,
    "freq_mhz": None,
}


def behaviour():
    return json.loads((PREFIX / "behaviour.json").read_text())


def say(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def log(text):
    with (PREFIX / "trials.log").open("a") as file:
        file.write(text + "\n")


def wait(seconds, request):
    """Sleep, but end as the real agent does when standard input closes."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([0], [], [], left)[0] and not os.read(0, 4096):
            log("interrupted " + request["trial_id"])
            failure(request, "interrupted", "standard input closed")
            sys.exit(1)


def failure(request, kind, reason):
    say(
        event="failure",
        schema=1,
        trial_id=request["trial_id"],
        attempt=request["attempt"],
        kind=kind,
        reason=reason,
        timings_s={},
        orphans=[],
        raw={"error.log": "all is lost\n"},
    )


def result(request, passed, load_host):
    group = {
        "cpu_user_s": 0.1,
        "cpu_sys_s": 0.1,
        "ctx_voluntary": 1,
        "ctx_involuntary": 1,
        "run_queue_wait_s": 0.0,
        "rss_bytes": 1,
        "threads": 1,
        "processes": 1,
    }
    requests = {
        "asked_s": 1.0,
        "measured_s": 1.0,
        "complete": 1000,
        "ok": 1000,
        "failed": 0,
        "non_2xx": 0,
        "keepalive": 0,
        "write_errors": 0,
        "length_failures": 0,
        "body_bytes": 1,
        "throughput_rps": 1000.0,
    }
    gate = {
        "name": "responses",
        "passed": passed,
        "value": 0.0 if passed else 1000.0,
        "limit": 0.0,
        "unit": "responses",
        "detail": "all 2xx" if passed else "1000 of 1000 responses are not 2xx",
    }
    say(
        event="result",
        schema=1,
        trial_id=request["trial_id"],
        attempt=request["attempt"],
        goodput_rps=1000.0,
        requests=requests,
        latency_ms={"mean": 1.0},
        handlers=[],
        windows=[],
        gates=[gate],
        counters={"lighttpd": group, "handlers": group, "load": group, "system": SYSTEM},
        timings_s={
            "prepare": 0.0,
            "start": 0.0,
            "ready": 0.0,
            "warmup": 0.0,
            "measure": 0.0,
            "stop": 0.0,
            "total": 0.0,
        },
        orphans=[],
        load_host=load_host,
        raw={"error.log": ""} if load_host else {"load.txt": "This is ApacheBench\n", "error.log": ""},
    )


def order(expected):
    """Take the orders up to the expected one; end as the real agent does when standard input closes."""
    while True:
        line = _first_line()
        if not line:
            log("interrupted while waiting for " + expected)
            failure({"trial_id": "t", "attempt": 1}, "interrupted", "standard input closed")
            sys.exit(1)
        said = json.loads(line)
        if said["do"] == expected:
            return said
        say(event="time", wall_s=time.time())


def load(plan):
    request = json.loads(_first_line() or "null")
    if request is None:
        return 1
    step = plan.get("load", "ok")
    log(f"load {request['trial_id']} {request['address']}:{request['port']}")
    if isinstance(step, dict):
        failure(request, step["fail"], "as asked")
        return 1
    say(event="warm")
    order("go")
    if step == "silent":
        time.sleep(3600)
    if step == "die":
        os.write(2, b"Traceback: it died\n")
        return 3
    say(
        event="report",
        schema=1,
        trial_id=request["trial_id"],
        attempt=request["attempt"],
        report={
            "measured_s": 0.5, "complete": 1000, "failed": 0, "non_2xx": 0, "write_errors": 0,
            "length_failures": 0, "mean_ms": [1.0, 2.0], "latency_ms": {},
        },
        asked_s=1,
        counters={"cpu_user_s": 0.1, "processes": 1},
        system=SYSTEM,
        timings_s={"warmup": 0.1, "measure": 0.2},
        raw={"load.txt": "This is ApacheBench\n"},
    )  # fmt: skip
    return 0


def trial(plan):
    request = json.loads(_first_line())
    steps = plan.get("trials", {}).get(f"{request['handler']}x{request['processes']}", ["ok"])
    step = steps[min(request["attempt"], len(steps)) - 1]
    log(f"{request['trial_id']} {request['attempt']} {step}")
    if step == "silent":
        time.sleep(3600)
    say(
        event="started",
        schema=1,
        trial_id=request["trial_id"],
        attempt=request["attempt"],
        pid=os.getpid(),
        orphans=[],
    )
    wait(3600 if step == "hang" else plan.get("delay_s", 0), request)
    if step == "die":
        os.write(2, b"Traceback: it died\n")
        sys.exit(3)
    if step == "garbage":
        sys.stdout.write("Segmentation fault\n")
        return 1
    if step == "old":
        say(event="result", schema=1, trial_id=request["trial_id"], rps=1000)
        return 0
    if isinstance(step, dict):
        failure(request, step["fail"], "as asked")
        return 1
    load_host = None
    if request["load_from"]:
        say(event="ready")
        order("begin")
        say(event="begun")
        load_host = order("end")["load"]["host"]
    result(request, step == "ok", load_host)
    return 0


def _first_line():
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


def main():
    plan = behaviour()
    if sys.argv[1] == "facts":
        sys.stdout.write(json.dumps(plan["facts"]) + "\n")
        return 0
    return load(plan) if sys.argv[1] == "load" else trial(plan)


sys.exit(main())
