"""Let handlers answer through the agent of this host, and say of each whether it did.

Reads ``{"agent", "proofs", "loads"}`` on stdin: the agent's path, and requests of trials with names for
people. The agent proves `proofs` one after the other, and measures each of `loads`. Prints a line for each,
and after one that failed the end of its log; exit 1 when any did.
"""

import json
import subprocess
import sys

SILENCE = {"event": "failure", "kind": "internal", "reason": "the agent said nothing"}


def outcomes(agent, command, document):
    """Return how trials went. The agent's stdin stays open meanwhile: closing it would end the trial."""
    with subprocess.Popen(
        [sys.executable, agent, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdin.write(json.dumps(document).encode() + b"\n")
        process.stdin.flush()
        events = [json.loads(line) for line in process.stdout]
    return [event for event in events if event["event"] != "started"]


def verdict(event):
    """Return whether a trial proves its handler, and a line that says what happened."""
    if event["event"] == "failure":
        return False, "{kind}: {reason}".format(**event)
    if event["event"] == "proved":
        return True, "{answers} answers right".format(**event)
    requests = event["requests"]
    wrong = requests["non_2xx"] + requests["length_failures"]
    line = "{} answers right, {} wrong".format(requests["ok"], wrong)
    failed = "; ".join(gate["detail"] for gate in event["gates"] if not gate["passed"])
    if requests["ok"] == 0:
        return False, line + ". " + failed
    # A handler that answers but does not last (flup's multiplexed one leaks) is for a sweep's gates.
    return True, line if wrong == 0 else line + "; a sweep would not count this: " + failed


def main():
    """Print the verdicts."""
    known = json.load(sys.stdin)
    proofs, loads = known["proofs"], known["loads"]
    events = outcomes(known["agent"], "prove", [each["request"] for each in proofs])
    events += [SILENCE] * (len(proofs) - len(events))
    for each in loads:
        events += outcomes(known["agent"], "trial", each["request"]) or [SILENCE]
    good = True
    for each, event in zip(proofs + loads, events):  # noqa: B905 (Python 3.9)
        proven, line = verdict(event)
        print("{}: {}".format(each["name"], line))
        if not proven:
            good = False
            log = event.get("raw", {}).get("error.log", "").splitlines()[-5:]
            print("".join("    " + said + "\n" for said in log), end="")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
