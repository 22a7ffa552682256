from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from lab import LabError, plan
from lab.plan import BridgeNote


@pytest.mark.parametrize("name", ["lab", "t1", "abcdefgh"])
def test_interface_names_of_a_good_lab_name_fit_the_kernel(name: str) -> None:
    assert plan.check_name(name) == name
    assert len(plan.veth_name(name, plan.MAX_CORES)) <= 15


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "a-b", "a/b", "toolonggg", "lab;rm"])
def test_a_bad_lab_name_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(LabError, match="lower-case letters and digits"):
        plan.check_name(name)


def test_names_of_one_lab_never_match_another() -> None:
    assert plan.host_pattern("lab").fullmatch(plan.host_name("lab", 12))
    assert not plan.host_pattern("lab").fullmatch(plan.host_name("lab2", 1))
    assert not plan.host_pattern("la").fullmatch(plan.host_name("lab", 1))
    assert plan.veth_pattern("lab").fullmatch(plan.veth_name("lab", 4))
    assert not plan.veth_pattern("lab").fullmatch(plan.bridge_name("lab"))
    assert not plan.veth_pattern("lab").fullmatch(plan.veth_name("lab1", 4))


def test_the_bridge_remembers_what_down_must_restore() -> None:
    note = BridgeNote(ip_forward=True, netns_mounted=False, state=Path("/home/a b/state"))
    assert BridgeNote.parse(note.alias()) == note
    assert BridgeNote.parse("somebody else's bridge") is None
    assert BridgeNote.parse("") is None


def test_the_default_lab_gets_the_first_network_and_others_get_their_own() -> None:
    assert str(plan.subnet("lab")) == "198.18.0.0/24"
    chosen = {plan.subnet(name) for name in ("t1", "t2", "bare", "u1f3")}
    assert len(chosen) == 4
    assert plan.subnet("lab") not in chosen
    assert all(network.subnet_of(plan.BENCHMARK_RANGE) for network in chosen)


def test_a_network_that_the_machine_has_is_not_taken() -> None:
    taken = ipaddress.IPv4Network("198.18.0.0/23")
    assert str(plan.subnet("lab", [taken])) == "198.18.2.0/24"
    with pytest.raises(LabError, match="take a lab down"):
        plan.subnet("lab", [plan.BENCHMARK_RANGE])


def test_addresses_follow_from_the_number_of_cores() -> None:
    network = ipaddress.IPv4Network("198.18.7.0/24")
    assert plan.gateway(network) == "198.18.7.1"
    assert plan.address(network, 2) == "198.18.7.12"
    assert plan.mac(plan.address(network, 2)) == "02:46:c6:12:07:0c"
    assert plan.loopback_address(4) == "127.0.0.14"


@pytest.mark.parametrize(("available", "cores"), [(1, (1,)), (2, (1, 2)), (3, (1, 2)), (64, (1, 2, 4))])
def test_the_default_hosts_fit_the_machine(available: int, cores: tuple[int, ...]) -> None:
    assert plan.default_cores(available) == cores


def test_cpus_of_a_host_are_different_cores_before_second_threads() -> None:
    siblings = {0: (0, 1), 1: (0, 1), 2: (2, 3), 3: (2, 3)}
    assert plan.choose_cpus([0, 1, 2, 3], siblings, 2) == (0, 2)
    assert plan.choose_cpus([0, 1, 2, 3], siblings, 3) == (0, 1, 2)
    assert plan.choose_cpus([0, 1, 2, 3], {}, 2) == (0, 1)
    assert plan.choose_cpus([5, 7], {}, 1) == (5,)


def test_more_cores_than_the_machine_has_are_refused_with_the_remedy() -> None:
    with pytest.raises(LabError, match=r"4 cores was asked for, this machine offers 2 .*--hosts"):
        plan.choose_cpus([0, 1], {}, 4)


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-2,5\n", (0, 1, 2, 5)), ("3", (3,)), ("", ()), ("0,64", (0, 64))]
)
def test_cpu_lists_are_read_as_the_kernel_writes_them(text: str, cpus: tuple[int, ...]) -> None:
    assert plan.parse_cpu_list(text) == cpus


@pytest.mark.parametrize(("text", "cores"), [("1,2", (1, 2)), ("4, 1", (1, 4)), ("lab-2core,1core", (1, 2))])
def test_hosts_are_asked_for_by_cores_or_by_name(text: str, cores: tuple[int, ...]) -> None:
    assert plan.parse_cores(text) == cores


@pytest.mark.parametrize("text", ["", "two", "0", "1,,2", "999", "-1"])
def test_other_words_for_hosts_are_refused(text: str) -> None:
    with pytest.raises(LabError, match="no number of cores"):
        plan.parse_cores(text)
