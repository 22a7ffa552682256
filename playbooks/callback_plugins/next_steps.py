"""Name each host that failed or could not be reached at the end of a playbook, with the next step."""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: next_steps
type: notification
short_description: name the hosts that failed, and the next step for each
description:
  - After the recap, prints one paragraph a host that failed or could not be reached, with what it said last.
requirements:
  - enable it in ansible.cfg (callbacks_enabled)
"""


class CallbackModule(CallbackBase):
    """Remember what each host said last before it dropped out."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "next_steps"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.said: dict[str, tuple[str, str]] = {}

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Keep the message of a failed task; a later one of the same host (from a rescue) says more."""
        self._keep(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Keep what ssh said."""
        self._keep(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the summary; silent when every host went through."""
        lost = sorted({*stats.dark, *(host for host, count in stats.failures.items() if count)})
        if not lost:
            return
        fine = sorted(host for host in stats.processed if host not in lost and host != "localhost")
        self._display.display(
            f"\n{len(lost)} of {len(lost) + len(fine)} hosts did not go through:", color="red"
        )
        for host in lost:
            task, message = self.said.get(host, ("", "no message"))
            heading = f"{host}: could not be reached" if host in stats.dark else f"{host}: failed at '{task}'"
            self._display.display(heading, color="red")
            for line in message.strip().splitlines():
                self._display.display(f"    {line}")
            self._display.display(f"  next step: {self._next_step(host, host in stats.dark)}")
        if fine:
            self._display.display(f"Went through: {', '.join(fine)}")

    def _keep(self, result: Any) -> None:
        answer = result.result if hasattr(result, "result") else result._result
        task = result.task if hasattr(result, "task") else result._task
        host = result.host if hasattr(result, "host") else result._host
        parts = [answer, *(item for item in answer.get("results", []) if item.get("failed"))]
        message = "\n".join(str(part[key]) for part in parts for key in ("msg", "stderr") if part.get(key))
        self.said[host.get_name()] = (task.get_name(), message)

    @staticmethod
    def _next_step(host: str, unreachable: bool) -> str:
        again = f"run the same command again with --limit {host}"
        if unreachable:
            ping = f"ansible {host} -i inventory -m ping -vvv"
            return f"see why `{ping}` does not get through (address, user, key, host key), then {again}"
        return f"do what the message says, then {again}"
