from __future__ import annotations

import ipaddress
from pathlib import Path

from lab import network

DATA = Path(__file__).parent / "data"


def test_a_firewall_that_drops_forwarded_packets_is_found() -> None:
    chains = (DATA / "nft-chains-forward-drop.json").read_text()
    assert network.dropping_chains(chains) == ["ip filter FORWARD"]
    assert network.dropping_chains("") == []
    assert network.dropping_chains('{"nftables": [{"metainfo": {"version": "1.0.6"}}]}') == []


def test_nat_is_made_anew_in_one_transaction_and_only_for_what_leaves_the_bridge() -> None:
    lines = network.nat_rules("t1", ipaddress.IPv4Network("198.18.5.0/24")).splitlines()
    assert lines[:3] == [
        "table ip fcgi_sweep_t1",
        "delete table ip fcgi_sweep_t1",
        "table ip fcgi_sweep_t1 {",
    ]
    assert '    ip saddr 198.18.5.0/24 oifname != "fl-t1" masquerade' in lines


def test_a_directory_that_is_mounted_on_itself_is_seen() -> None:
    assert network.mounts_on(Path("/proc")) >= 1
    assert network.mounts_on(Path("/proc/self")) == 0
