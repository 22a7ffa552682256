from __future__ import annotations

import json

import pytest

from lab import Lab

pytestmark = [pytest.mark.integration, pytest.mark.lab, pytest.mark.slow]


def test_every_lab_host_builds_its_own_lighttpd(provisioned_lab: Lab) -> None:
    for host in provisioned_lab.hosts.values():
        manifest = json.loads(host.ssh(["cat .fcgi-sweep/manifest.json"]).stdout)
        server = next(build for build in manifest["lighttpd"] if build["default"])
        said = host.ssh([f"{server['path']} -v"])
        assert server["version"] in said.stdout, said.stderr


def test_lab_hosts_were_provisioned_without_a_way_out_and_without_root(provisioned_lab: Lab) -> None:
    for host in provisioned_lab.hosts.values():
        tried = host.ssh(["python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 5)'"])
        assert "Network is unreachable" in tried.stderr
        assert host.ssh(["find .fcgi-sweep ! -user bench"]).stdout == ""
        assert host.ssh(["ls .fcgi-sweep"]).stdout.split() != []
