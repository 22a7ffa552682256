from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from controller.errors import InventoryError
from controller.inventory import Host, host_from_variables, parse_cpus, parse_ssh_arguments, read_hosts

INVENTORY = Path("inventory")
ROOT = Path(__file__).parents[2]


def host(**variables: object) -> Host:
    return host_from_variables("web1", variables, INVENTORY)


def test_hosts_come_from_the_inventory_that_ansible_reads(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "01-hosts.yml").write_text(
        "targets:\n  hosts:\n    this-machine: {ansible_connection: local}\n"
        "  children:\n    lab:\n      hosts:\n"
        "        lab-2core: {ansible_host: 198.18.3.12, ansible_user: bench}\n"
    )
    (inventory / "group_vars" / "lab.yml").write_text(
        "machine: box-lab\n"
        "ansible_ssh_common_args: '-o UserKnownHostsFile=/l/known_hosts -o IdentitiesOnly=yes'\n"
    )
    local, lab = sorted(read_hosts(inventory, "targets", tmp_path), key=lambda h: h.connection)
    assert local == Host(
        name="this-machine", machine=socket.gethostname(), address="this-machine", connection="local"
    )
    assert (lab.name, lab.address, lab.user, lab.machine) == ("lab-2core", "198.18.3.12", "bench", "box-lab")
    assert lab.known_hosts == ("/l/known_hosts",)
    assert [h.name for h in read_hosts(inventory, "targets:!lab", tmp_path)] == ["this-machine"]
    with pytest.raises(
        InventoryError, match=r"'labb' selects no host; groups: lab, targets; hosts: .*lab-2core"
    ):
        read_hosts(inventory, "labb", tmp_path)


def test_hosts_can_be_named_by_a_group_that_made_itself_from_their_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory, facts = tmp_path / "inventory", tmp_path / "facts"
    for directory in (inventory, facts):
        directory.mkdir()
    shutil.copy(ROOT / "inventory" / "90-derived.yml", inventory)
    (inventory / "01-hosts.yml").write_text("targets: {hosts: {web1: {}, web2: {}, web3: {}}}\n")
    for name, cores in (("web1", 4), ("web2", 8)):
        payload = json.dumps({"ansible_processor_nproc": cores, "ansible_architecture": "aarch64"})
        (facts / f"s1_{name}").write_text(json.dumps({"__payload__": payload}))
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN_CONNECTION", str(facts))
    monkeypatch.chdir(tmp_path)
    assert [host.name for host in read_hosts(inventory, "cores_8", ROOT)] == ["web2"]
    assert [host.name for host in read_hosts(inventory, "arch_aarch64:!cores_8", ROOT)] == ["web1"]


def test_an_ansible_that_is_told_to_be_chatty_is_still_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_VERBOSITY", "4")
    monkeypatch.setenv("ANSIBLE_DEBUG", "1")
    (tmp_path / "hosts.yml").write_text("targets: {hosts: {web1: {}}}\n")
    assert [host.name for host in read_hosts(tmp_path / "hosts.yml", "targets", tmp_path)] == ["web1"]


def test_an_unusable_inventory_is_named(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"nowhere: no such inventory; name one with --inventory"):
        read_hosts(tmp_path / "nowhere", "all", tmp_path)
    (tmp_path / "broken.yml").write_text("targets:\n  hosts:\n    web1:\n      ansible_port: 22\n     a: b\n")
    with pytest.raises(InventoryError, match=r"Ansible cannot use this inventory: .*broken\.yml:5:6: YAML"):
        read_hosts(tmp_path / "broken.yml", "all", tmp_path)


def test_every_connection_variable_of_ansible_holds() -> None:
    found = host(
        ansible_host="10.0.0.5",
        ansible_port=2222,
        ansible_user="bench",
        ansible_ssh_private_key_file="~/.ssh/bench",
        ansible_ssh_common_args="-o UserKnownHostsFile=/k -o ProxyJump=me@gate:2200 -C",
        ansible_python_interpreter="/usr/bin/python3",
        machine="box",
        server_cpus="0-1,3",
        load_cpus=[4],
        fcgi_sweep_prefix="/srv/sweep",
        fcgi_sweep_port=9000,
    )
    assert found == Host(
        name="web1",
        machine="box",
        address="10.0.0.5",
        port=2222,
        user="bench",
        private_key="~/.ssh/bench",
        known_hosts=("/k",),
        proxy_jump="me@gate:2200",
        server_cpus=(0, 1, 3),
        load_cpus=(4,),
        prefix="/srv/sweep",
        python="/usr/bin/python3",
        listen_port=9000,
    )


def test_a_connection_may_have_its_full_name() -> None:
    assert host(ansible_connection="ansible.builtin.ssh") == host()
    assert host(ansible_connection="ansible.builtin.local") == host(ansible_connection="local")


def test_a_password_is_never_part_of_what_a_host_prints() -> None:
    secret = "correct horse battery staple"  # noqa: S105
    found = host(ansible_password=secret)
    assert found.password == secret
    assert secret not in repr(found)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ansible_host": "{{ x }}"}, "ansible_host holds a template"),
        ({"ansible_port": "ssh"}, "ansible_port is 'ssh'"),
        ({"ansible_port": 99999}, "ansible_port is '99999'"),
        ({"ansible_connection": "docker"}, "ansible_connection is 'docker'"),
        (
            {"ansible_password": {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162"}},
            "encrypted, which only",
        ),
        ({"server_cpus": "all"}, r"server_cpus is 'all'; write CPUs as \[0, 1\] or '0-3'"),
        ({"load_cpus": [-1]}, "load_cpus"),
        ({"fcgi_sweep_prefix": "/a b"}, "fcgi_sweep_prefix is '/a b'"),
        ({"fcgi_sweep_prefix": "relative"}, "absolute path"),
        ({"ansible_ssh_common_args": "-o ProxyCommand='ssh gate -W %h:%p'"}, "ProxyJump"),
        ({"ansible_ssh_common_args": "gate"}, "'gate', which is no option"),
        ({"ansible_ssh_common_args": "-p twenty"}, "port 'twenty'"),
    ],
)
def test_variables_that_make_no_sense_are_named_with_their_host(
    variables: dict[str, object], words: str
) -> None:
    with pytest.raises(InventoryError, match=f"inventory: web1: .*{words}"):
        host(**variables)


def test_a_host_name_that_cannot_be_a_file_name_is_refused() -> None:
    with pytest.raises(InventoryError, match=r"host '\.\./x'"):
        host_from_variables("../x", {}, INVENTORY)


def test_ssh_arguments_are_read_in_all_their_spellings() -> None:
    options = parse_ssh_arguments(
        "-4 -J a@g -i /k -p22 -l root -F none -oUserKnownHostsFile='/a /b' -o 'User x'"
    )
    assert options.proxy_jump == "a@g"
    assert options.private_key == "/k"
    assert options.port == 22
    assert options.user == "root"
    assert options.config_file == "none"
    assert options.known_hosts == ("/a", "/b")


@pytest.mark.parametrize(
    ("written", "cpus"), [([1, 0], (0, 1)), ("0-3", (0, 1, 2, 3)), (2, (2,)), ("0,2", (0, 2))]
)
def test_cpus_are_lists_or_ranges(written: object, cpus: tuple[int, ...]) -> None:
    assert parse_cpus(written) == cpus
