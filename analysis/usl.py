"""Least squares for the Universal Scalability Law, for many rows of speeds at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from analysis.curves import FloatArray, IntArray

STEPS = 60
HALVINGS = 12
SETTLED = 1e-12
"""A step that lowers the squared error by a smaller share than this is the last."""


def fit_rows(processes: FloatArray, speeds: FloatArray, weights: FloatArray, *, decline: bool) -> FloatArray:
    """Fit speed = N / (a + b (N - 1) + c N (N - 1)) to each row; b and c are not below 0.

    A solver with bounds creeps towards a bound and is slow for one row at a time. So every choice of
    terms is fitted without bounds, all rows in step, and the best one whose terms are all positive
    is taken: the bounded optimum is the free optimum of the terms that it keeps.

    Parameters
    ----------
    processes : array
        Process counts.
    speeds : array, rows x counts
        Speed at each count.
    weights : array, rows x counts
        Factor of each error before it is squared; 0 leaves a count out.
    decline : bool
        ``False`` leaves c at 0.

    Returns
    -------
    array, rows x 3
        a, b and c.
    """
    terms = np.column_stack([np.ones_like(processes), processes - 1, processes * (processes - 1)])
    optional = (1, 2) if decline else (1,)
    best = np.zeros((len(speeds), 3))
    lowest = np.full(len(speeds), np.inf)
    for size in range(len(optional) + 1):
        for kept in combinations(optional, size):
            columns = np.array([0, *kept])
            found, errors = _free_fit(_Problem(processes, speeds, weights, terms[:, columns]))
            better = (found > 0).all(axis=1) & (errors < lowest)
            lowest[better] = errors[better]
            fitted = np.zeros_like(best)
            fitted[:, columns] = found
            best[better] = fitted[better]
    return best


@dataclass(frozen=True)
class _Problem:
    """Rows of speeds to be fitted with some of the terms."""

    processes: FloatArray
    speeds: FloatArray
    weights: FloatArray
    terms: FloatArray

    def rows(self, which: IntArray) -> _Problem:
        return _Problem(self.processes, self.speeds[which], self.weights[which], self.terms)

    def errors(self, coefficients: FloatArray) -> FloatArray:
        """Return the squared error of each row, infinite where a modelled speed is not positive."""
        bottom = coefficients @ self.terms.T
        modelled = self.processes / np.where(bottom > 0, bottom, 1.0)
        squared: FloatArray = (((modelled - self.speeds) * self.weights) ** 2).sum(axis=1)
        return np.where((bottom > 0).all(axis=1), squared, np.inf)

    def start(self) -> FloatArray:
        """Return coefficients near the solution."""
        # 1 - measured/modelled is linear in the coefficients
        matrices = self.terms * (self.weights * self.speeds**2 / self.processes)[:, :, None]
        found = _solved(matrices, self.weights * self.speeds)
        # a start that is negative somewhere has no speed: one without any bend has
        flat = np.zeros_like(found)
        flat[:, 0] = (self.weights * self.processes / self.speeds).sum(axis=1) / self.weights.sum(axis=1)
        return np.where((found @ self.terms.T > 0).all(axis=1, keepdims=True), found, flat)

    def step(self, coefficients: FloatArray) -> FloatArray:
        """Return the Gauss-Newton step of each row."""
        bottom = coefficients @ self.terms.T
        modelled = self.processes / bottom
        slopes = self.terms * (-modelled / bottom * self.weights)[:, :, None]
        return _solved(slopes, (self.speeds - modelled) * self.weights)


def _free_fit(problem: _Problem) -> tuple[FloatArray, FloatArray]:
    """Return coefficients without bounds and their squared errors, all rows in step."""
    scale = np.asarray(problem.terms.max(axis=0))
    problem = replace(problem, terms=problem.terms / scale)
    found = problem.start()
    errors = problem.errors(found)
    moving: IntArray = np.arange(len(found))
    for _ in range(STEPS):
        before = errors[moving]
        found[moving], errors[moving] = _lowered(problem.rows(moving), found[moving], before)
        moving = moving[errors[moving] < before * (1 - SETTLED)]
        if not len(moving):
            break
    return found / scale, errors


def _lowered(problem: _Problem, start: FloatArray, errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each row after the longest of the halved steps that lowers its error, or as it was."""
    step = problem.step(start)
    found, lowest = start.copy(), errors.copy()
    waiting: IntArray = np.arange(len(start))
    for _ in range(HALVINGS):
        tried = start[waiting] + step[waiting]
        now = problem.rows(waiting).errors(tried)
        lower = now < lowest[waiting]
        found[waiting[lower]], lowest[waiting[lower]] = tried[lower], now[lower]
        waiting = waiting[~lower]
        if not len(waiting):
            break
        step = step / 2
    return found, lowest


def _solved(matrices: FloatArray, right: FloatArray) -> FloatArray:
    """Return the least-squares solution of each row's equations."""
    turned = matrices.transpose(0, 2, 1)
    squares = turned @ matrices
    # keeps a row solvable whose counts do not tell the terms apart; far below what the data can say
    ridge = 1e-14 * np.trace(squares, axis1=1, axis2=2)[:, None, None] * np.eye(squares.shape[1])
    return np.asarray(np.linalg.solve(squares + ridge, turned @ right[:, :, None])[:, :, 0])
