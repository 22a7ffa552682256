from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import Lab, LabError, machine, preflight, testing


def lab(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=machine.PROJECT,
        env={**os.environ, **({"PATH": path} if path is not None else {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--name", "Bad"), "use 1 to 8 lower-case letters and digits"),
        (("up", "--name", "x9", "--hosts", "many"), "'many' is no number of cores"),
        (("up", "--name", "x9", "--rootfs", "windows"), "use overlay or debian:<suite>"),
        (("up", "--name", "x9", "--mode", "magic"), "use one of auto, namespaces, processes"),
        (("down", "--name", "a/b"), "lower-case letters and digits"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: tuple[str, ...], said: str) -> None:
    done = lab(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("lab: ")
    assert said in done.stderr


def test_status_of_a_lab_that_is_not_up_says_how_to_get_it(state_home: Path) -> None:
    done = lab("status", "--name", "x9")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`python -m lab up --name x9`" in done.stderr


def test_missing_packages_are_all_named_in_one_message_with_the_command() -> None:
    with pytest.raises(
        LabError, match=r"lacks: package-a package-b; .*apt-get install -y package-a package-b"
    ):
        preflight.require(
            {"no-such-b": "package-b", "sh": "dash"}, {"no-such-a": "package-a", "no-such-c": "package-a"}
        )
    preflight.require({"sh": "dash"})


@pytest.mark.lab
def test_two_ups_at_once_do_not_disturb_each_other(namespaces: None) -> None:
    name = testing.own_name("ur")
    command = [sys.executable, "-m", "lab", "up", "--name", name, "--hosts", "1"]
    try:
        with (
            subprocess.Popen(
                command, cwd=machine.PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as one,
            subprocess.Popen(
                command, cwd=machine.PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as two,
        ):
            said = sorted((one.communicate()[0] + two.communicate()[0]).decode().splitlines())
        assert (one.returncode, two.returncode) == (0, 0)
        assert [line.split(maxsplit=4)[4] for line in said] == ["left alone, it is up", "started"]
    finally:
        Lab(name).down()
