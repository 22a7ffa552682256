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
