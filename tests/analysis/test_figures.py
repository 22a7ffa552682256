from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex

from analysis.dataset import read_run
from analysis.figures.comparisons import p_best_figure, ratio_figure
from analysis.figures.evidence import latency_figure, order_figure
from analysis.figures.style import RC, marks
from analysis.figures.throughput import host_figure, normalised_figure
from analysis.findings import Findings, find
from analysis.illustrations import illustrations
from analysis.tables import latency_table, order_table


@pytest.fixture(scope="module")
def findings(two_hosts: Path) -> Findings:
    return find(read_run(two_hosts))


def _host(findings: Findings, host: str = "lab-2core") -> tuple[pd.DataFrame, pd.DataFrame]:
    attempts = findings.attempts
    cells = findings.cells[findings.cells["host"] == host]
    return cells, attempts[(attempts["host"] == host) & (attempts["role"] == "cell")]


def test_the_interval_in_the_figure_is_the_interval_in_the_table(findings: Findings) -> None:
    cells, attempts = _host(findings)
    axes = host_figure(cells, attempts, 24000.0).axes[0]
    drawn = [
        tuple(segment[:, 1])
        for collection in axes.collections
        if isinstance(collection, LineCollection)
        for segment in collection.get_segments()
    ]
    wanted = list(zip(cells["low_rps"], cells["high_rps"], strict=True))
    assert np.array(sorted(drawn)) == pytest.approx(np.array(sorted(wanted)))
    lines = {tuple(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 8}
    for _, own in cells.groupby("handler"):
        assert tuple(own.sort_values("processes")["median_rps"]) in lines


def test_every_trial_is_a_dot_and_invalid_ones_are_hollow(findings: Findings) -> None:
    cells, attempts = _host(findings)
    axes = host_figure(cells, attempts, None).axes[0]
    filled = hollow = 0
    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            count = len(np.asarray(collection.get_offsets()))
            if len(np.asarray(collection.get_facecolor())):
                filled += count
            else:
                hollow += count
    assert filled == (attempts["status"] == "valid").sum()
    assert hollow == (attempts["status"] != "valid").sum() > 0


def test_cores_are_marked_and_n_is_told(findings: Findings) -> None:
    cells, attempts = _host(findings)
    axes = host_figure(cells, attempts, 24000.0).axes[0]
    assert "cores = 2" in [text.get_text() for text in axes.texts]
    assert "n = 10" in axes.get_xlabel()
    assert "requests/s" in axes.get_ylabel()
    assert "24,000" in axes.get_xlabel()


def test_without_intervals_none_is_drawn(findings: Findings) -> None:
    cells, attempts = _host(findings)
    bare = cells.assign(low_rps=np.nan, high_rps=np.nan, n=4)
    axes = host_figure(bare, attempts, None).axes[0]
    segments = [
        segment
        for item in axes.collections
        if isinstance(item, LineCollection)
        for segment in item.get_segments()
    ]
    assert segments == []
    assert "no interval" in axes.get_xlabel()


def test_hosts_side_by_side_share_their_scales(findings: Findings) -> None:
    figure = normalised_figure(findings.cells)
    assert figure is not None
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    top = findings.cells["relative"].max()
    assert figure.axes[0].get_ylim()[1] > top


def test_the_ratio_figure_shows_the_tables_numbers_and_the_zone(findings: Findings) -> None:
    figure = ratio_figure(findings.ratios, 0.02)
    assert figure is not None
    drawn = sorted(
        value
        for axes in figure.axes
        for line in axes.lines
        if len(line.get_xdata()) == 8
        for value in line.get_ydata()
    )
    assert drawn == pytest.approx(sorted(findings.ratios["percent"]))


def test_the_bars_are_the_tables_shares(findings: Findings) -> None:
    figure = p_best_figure(findings.cells)
    assert figure is not None
    heights = sorted(bar.get_height() for axes in figure.axes for bar in axes.patches)
    p_best = findings.cells["p_best"]
    assert heights == pytest.approx(sorted(100 * p_best[p_best > 0]))


def test_run_order_and_latency_hold_their_rows(findings: Findings) -> None:
    order = order_table(findings.trials)
    figure = order_figure(order, findings.drifts)
    assert figure is not None
    dots = sum(len(np.asarray(item.get_offsets())) for axes in figure.axes for item in axes.collections)
    assert dots == (order["role"] == "cell").sum()
    latency = latency_figure(latency_table(findings.trials))
    assert latency is not None
    assert all("closed loop, c = 32" in axes.get_xlabel() for axes in latency.axes[-2:])


def test_no_text_of_any_figure_leaves_the_figure(findings: Findings) -> None:
    for item in illustrations(findings):
        figure = item.draw()
        if figure is None:
            continue
        with mpl.rc_context(RC):
            figure.savefig(io.BytesIO(), dpi=figure.dpi)
        width, height = figure.bbox.size
        for axes in figure.axes:
            box = axes.get_tightbbox()
            assert box is not None
            assert box.x0 >= -1, item.name
            assert box.y0 >= -1, item.name
            assert box.x1 <= width + 1, item.name
            assert box.y1 <= height + 1, item.name


def test_series_differ_in_grey_marker_and_line_style() -> None:
    used = marks(["threaded", "multiplexed", "serial", "prefork"]).values()
    assert len({mark.marker for mark in used}) == 4
    assert len({str(mark.dashes) for mark in used}) == 4
    greys = sorted(
        0.299 * int(colour[1:3], 16) + 0.587 * int(colour[3:5], 16) + 0.114 * int(colour[5:7], 16)
        for colour in (to_hex(mark.colour) for mark in used)
    )
    assert min(np.diff(greys)) > 1
