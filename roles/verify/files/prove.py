"""Run one trial through the agent of this host and say whether the handler answered as it should.

Reads ``{"agent", "trial"}`` on stdin, where ``trial`` is the agent's request. Prints one line; exit 1 when an
answer was wrong or the trial could not be run.
"""

import json
import subprocess
import sys


def last_event(agent, trial):
    """Return the agent's last event. Its stdin stays open meanwhile: closing it would end the trial."""
    with subprocess.Popen(
        [sys.executable, agent, "trial"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdin.write(json.dumps(trial).encode() + b"\n")
        process.stdin.flush()
        lines = process.stdout.read().splitlines()
    return (
        json.loads(lines[-1])
        if lines
        else {"event": "failure", "kind": "internal", "reason": "the agent said nothing"}
    )


def verdict(event):
    """Return what is wrong, or None, and a line that says what happened."""
    if event["event"] != "result":
        return "{kind}: {reason}".format(**event), ""
    requests = event["requests"]
    wrong = requests["non_2xx"] + requests["length_failures"]
    line = "{} answers right, {} wrong".format(requests["ok"], wrong)
    failed = "; ".join(gate["detail"] for gate in event["gates"] if not gate["passed"])
    if requests["ok"] == 0:
        return line + ". " + failed, ""
    # A handler that answers but does not last (flup's multiplexed one leaks) is for a sweep's gates.
    return None, line if wrong == 0 else line + "; a sweep would not count this: " + failed


def main():
    """Print the verdict of the trial."""
    request = json.load(sys.stdin)
    event = last_event(request["agent"], request["trial"])
    problem, line = verdict(event)
    if problem is None:
        print(line)
        return 0
    log = event.get("raw", {}).get("error.log", "").splitlines()[-5:]
    print("\n".join([problem, *log]), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
