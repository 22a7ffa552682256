from __future__ import annotations

from pathlib import Path

import yaml

from lab import debian, documents
from lab.documents import Access
from lab.plan import HostSpec
from lab.rootfs import disk_mounts

ACCESS = Access("bench", Path("/state dir/id_ed25519"), Path("/state dir/known_hosts"))
ONE = HostSpec("lab-1core", 1, (0,), "198.18.0.11", 22)
LOOPBACK = HostSpec("p-2core", 2, (0, 1), "127.0.0.12", 2201)


def test_inventory_makes_the_lab_a_child_of_the_targets() -> None:
    text = documents.inventory([ONE, LOOPBACK], ACCESS, "vm-lab", {"p-2core": {"fcgi_sweep_prefix": "/p"}})
    lab = yaml.safe_load(text)["targets"]["children"]["lab"]
    assert text.startswith(documents.GENERATED)
    assert lab["hosts"]["lab-1core"]["ansible_host"] == "198.18.0.11"
    plain = lab["hosts"]["p-2core"]
    assert plain["ansible_port"] == 2201
    assert plain["fcgi_sweep_prefix"] == "/p"
    assert plain["machine"] == "vm-lab"
    assert plain["ansible_user"] == "bench"
    assert "'UserKnownHostsFile=/state dir/known_hosts'" in plain["ansible_ssh_common_args"]
    assert list(lab) == ["hosts"], "variables of the group would mix up two labs"


def test_known_hosts_names_the_port_only_where_it_is_not_the_usual_one() -> None:
    key = "ssh-ed25519 AAAA comment"
    assert documents.known_hosts_line(ONE, key) == "198.18.0.11 ssh-ed25519 AAAA\n"
    assert documents.known_hosts_line(LOOPBACK, key) == "[127.0.0.12]:2201 ssh-ed25519 AAAA\n"


def test_the_bench_user_gets_a_free_uid_and_nobody_is_locked_out() -> None:
    accounts = "root:x:0:0:root:/root:/bin/bash\nother:x:2000:2000::/home/other:/bin/sh\n"
    group = "root:x:0:\nother:x:2000:\ntaken:x:2001:\n"
    shadow = "root:!:19000::::::\nother:*:19000::::::\n"
    passwd, group, shadow, uid = documents.add_user(accounts, group, shadow, "/bin/bash")
    assert uid == 2002
    assert "bench:x:2002:2002:lab user:/home/bench:/bin/bash\n" in passwd
    assert group.endswith("bench:x:2002:\n")
    assert "root:!" not in shadow
    again = documents.add_user(passwd, group, shadow, "/bin/bash")
    assert [text.count("\nbench:") for text in again[:3]] == [1, 1, 1]


def test_a_resolver_on_loopback_is_replaced_by_the_real_ones() -> None:
    stub = "nameserver 127.0.0.53\noptions edns0\n"
    upstream = "# real\nnameserver 10.0.0.1\nsearch example.org\n"
    assert documents.choose_resolv_conf([upstream]) == upstream
    assert documents.choose_resolv_conf([stub, upstream]) == upstream
    assert documents.choose_resolv_conf([stub + upstream]) == "options edns0\n" + upstream
    assert documents.choose_resolv_conf([stub]) is None


def test_the_debian_mirror_is_the_one_that_apt_uses_for_whole_releases() -> None:
    targets = (
        "https://packages.example.com/apt/ cloud main\n"
        "http://mirror.example.org/debian-security/ bookworm-security main\n"
        "http://mirror.example.org/debian/ bookworm-updates main\n"
        "http://mirror.example.org/debian/ bookworm contrib\n"
        "http://mirror.example.org/debian/ bookworm main\n"
    )
    assert debian.choose_mirror(targets) == "http://mirror.example.org/debian/"
    assert debian.choose_mirror("http://archive.example.com/ubuntu/ noble main\n") is None
    assert debian.choose_mirror("") is None


def test_a_bare_host_inherits_the_proxy_of_the_machine_and_nothing_else() -> None:
    dump = (
        'Acquire::http::Proxy "http://proxy.example.org:3128";\n'
        'Acquire::https::Proxy "";\n'
        'Acquire::Languages "none";\n'
        'APT::Architecture "amd64";\n'
    )
    assert debian.apt_settings(dump) == 'Acquire::http::Proxy "http://proxy.example.org:3128";\n'


def test_file_systems_with_files_of_the_system_are_found_in_mountinfo() -> None:
    mountinfo = (
        "21 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "22 21 0:20 / /proc rw - proc proc rw\n"
        "23 21 254:1 / /var/lib/my\\040data rw shared:1 - xfs /dev/vdb rw\n"
        "24 21 254:2 / /usr ro shared:2 master:1 - ext4 /dev/vdc ro\n"
        "25 21 0:30 / /run rw - tmpfs tmpfs rw\n"
    )
    assert disk_mounts(mountinfo) == [Path("/usr"), Path("/var/lib/my data")]
