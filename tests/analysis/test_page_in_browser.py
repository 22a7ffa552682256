"""The page in a real headless browser: no console error, sorting works, nothing overflows on a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="NO BROWSER: the page was not opened; install chromium to check it"
)

PROBE = """<script>
const heading = [...document.querySelectorAll("#cells ~ .scroll th button")]
  .find(button => button.textContent.startsWith("median"));
heading.focus();
heading.click();
const column = heading.parentElement.cellIndex;
const table = heading.closest("table");
const values = [...table.tBodies[0].rows].map(row => Number(row.cells[column].dataset.sort));
document.body.dataset.sorted = String(values.every((value, i) => i === 0 || values[i - 1] <= value));
document.body.dataset.sort = heading.parentElement.getAttribute("aria-sort");
document.body.dataset.focus = String(document.activeElement === heading);
document.body.dataset.overflow = String(document.documentElement.scrollWidth - innerWidth);
document.body.dataset.requests = String(performance.getEntriesByType("resource")
  .filter(entry => !entry.name.startsWith("data:")).length);
document.body.dataset.broken = String([...document.images].filter(image => !image.naturalWidth).length);
</script>"""


def _open(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    quiet = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        " --disable-component-update --disable-sync --disable-dev-shm-usage --enable-logging=stderr"
    )
    command = [BROWSER, *quiet.split(), f"--user-data-dir={profile}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)


@pytest.fixture(scope="module")
def opened(two_hosts: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    written = report.write_report(two_hosts, tmp_path_factory.mktemp("page"))
    probed = written.index.with_name("probed.html")
    text = written.index.read_text(encoding="utf-8")
    probed.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    profile = tmp_path_factory.mktemp("profile")
    return _open(probed, profile, "--window-size=500,900", "--virtual-time-budget=5000", "--dump-dom")


def _data(opened: subprocess.CompletedProcess[str], name: str) -> str:
    found = re.search(rf'<body[^>]* data-{name}="([^"]*)"', opened.stdout)
    assert found, opened.stdout[:300]
    return found.group(1)


def test_the_console_stays_empty(opened: subprocess.CompletedProcess[str]) -> None:
    assert [line for line in opened.stderr.splitlines() if "CONSOLE" in line] == []


def test_a_click_or_key_on_a_heading_sorts_the_table(opened: subprocess.CompletedProcess[str]) -> None:
    assert _data(opened, "sorted") == "true"
    assert _data(opened, "sort") == "ascending"
    assert _data(opened, "focus") == "true"


def test_nothing_is_wider_than_a_phone(opened: subprocess.CompletedProcess[str]) -> None:
    assert int(_data(opened, "overflow")) <= 0


def test_no_request_is_made_and_every_picture_is_drawn(opened: subprocess.CompletedProcess[str]) -> None:
    assert _data(opened, "requests") == "0"
    assert _data(opened, "broken") == "0"
