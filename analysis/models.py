"""Models of speed against process count: a knee, Amdahl's law, the Universal Scalability Law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.curves import FloatArray, IntArray
from analysis.intervals import block_weights, expanded_tail
from analysis.usl import fit_rows

KNEE, AMDAHL, USL = "knee", "Amdahl", "USL"
MODELS = (KNEE, AMDAHL, USL)
COUNTS_FOR_MODEL = 5
BLOCKS_FOR_MODEL = 6
MODEL_RESAMPLES = 200
NEGLIGIBLE_BEND = 0.01
"""beta N (N - 1) at the largest count: below this the decline is less than a percent."""


@dataclass(frozen=True)
class Fit:
    """One fitted model.

    Parameters
    ----------
    model : str
        knee: min(gamma N, limit). Amdahl and USL: gamma N / (1 + alpha (N - 1) + beta N (N - 1)).
    gamma : float
        Speed of one process, in the unit of the data.
    alpha, beta : float
        Contention and coherency; beta is 0 for Amdahl, both are 0 for the knee.
    limit : float
        Plateau of the knee; infinite for the others.
    """

    model: str
    gamma: float
    alpha: float = 0.0
    beta: float = 0.0
    limit: float = float("inf")

    def predict(self, processes: FloatArray) -> FloatArray:
        """Return the modelled speed at some counts."""
        n = np.asarray(processes, dtype=np.float64)
        rational = self.gamma * n / (1 + self.alpha * (n - 1) + self.beta * n * (n - 1))
        return np.asarray(np.minimum(rational, self.limit))

    @property
    def peak(self) -> float | None:
        """Count with the highest modelled speed; ``None`` when the model does not decline."""
        if self.beta <= 0 or self.alpha >= 1:
            return None
        return float(np.sqrt((1 - self.alpha) / self.beta))


@dataclass(frozen=True)
class ModelChoice:
    """The model that predicts best what it has not seen.

    Parameters
    ----------
    fit : Fit
        The chosen model, fitted to the block means.
    errors_percent : dict
        Model to its leave-one-count-out prediction error (root mean square, percent).
    beta_low, beta_high : float
        95 % block-bootstrap interval of USL's beta.
    peak_low, peak_high : float or None
        The same of USL's peak; ``None`` when no decline is shown.
    declines : bool
        Whether USL predicts best and the interval of its beta excludes 0.
    range : tuple of int
        Counts that were measured; the model says nothing outside.
    """

    fit: Fit
    errors_percent: dict[str, float]
    beta_low: float
    beta_high: float
    peak_low: float | None
    peak_high: float | None
    declines: bool
    range: tuple[int, int]


def fit_usl(processes: FloatArray, speed: FloatArray, *, relative: bool = True, decline: bool = True) -> Fit:
    """Fit the Universal Scalability Law by nonlinear least squares.

    Parameters
    ----------
    processes, speed : array
        At least three points.
    relative : bool
        Weigh errors in proportion to the speed, as for measurements with a constant relative error;
        ``False`` weighs all points alike, as the published fits do.
    decline : bool
        ``False`` fixes beta at 0: Amdahl's law.

    Returns
    -------
    Fit
        With gamma, alpha and beta not below 0.
    """
    speeds = np.asarray(speed, dtype=np.float64)[None, :]
    weights = 1 / speeds if relative else np.full_like(speeds, 1 / speeds.mean())
    return _usl_fits(processes, speeds, weights, decline=decline)[0]


def _usl_fits(processes: FloatArray, speeds: FloatArray, weights: FloatArray, *, decline: bool) -> list[Fit]:
    n = np.asarray(processes, dtype=np.float64)
    return [
        Fit(USL if decline else AMDAHL, float(1 / a), float(b / a), float(c / a))
        for a, b, c in fit_rows(n, speeds, weights, decline=decline)
    ]


def fit_knee(processes: FloatArray, speed: FloatArray) -> Fit:
    """Fit min(gamma N, limit) by least squares on the log scale, over all places of the knee."""
    n = np.asarray(processes, dtype=np.float64)
    logs = np.log(np.asarray(speed, dtype=np.float64))
    order = np.argsort(n)
    log_n, logs = np.log(n[order]), logs[order]
    before = np.arange(1, len(n) + 1)
    log_gammas = (logs - log_n).cumsum() / before
    log_limits = np.full(len(n), np.inf)
    log_limits[:-1] = logs[:0:-1].cumsum()[::-1] / before[-2::-1]
    modelled = np.minimum(log_gammas[:, None] + log_n, log_limits[:, None])
    best = int(((modelled - logs) ** 2).sum(axis=1).argmin())
    return Fit(KNEE, float(np.exp(log_gammas[best])), limit=float(np.exp(log_limits[best])))


def fit_model(model: str, processes: FloatArray, speed: FloatArray) -> Fit:
    """Fit a model by its name."""
    return fit_each(model, processes, np.asarray(speed, dtype=np.float64)[None, :])[0]


def fit_each(model: str, processes: FloatArray, speeds: FloatArray) -> list[Fit]:
    """Fit a model by its name to each row of speeds."""
    if model == KNEE:
        return [fit_knee(processes, row) for row in speeds]
    return _usl_fits(processes, speeds, 1 / speeds, decline=model == USL)


def leave_one_out_errors(processes: FloatArray, speed: FloatArray) -> dict[str, float]:
    """Return each model's error at counts that it was not fitted to, root mean square in percent.

    The outermost counts are never left out: a model is not asked to extrapolate.
    """
    inner = np.arange(1, len(processes) - 1)
    errors = {}
    for model in MODELS:
        fits = _fits_without_each(model, processes, speed, inner)
        predicted = [fit.predict(processes[[place]])[0] for fit, place in zip(fits, inner, strict=True)]
        misses = np.log(predicted / speed[inner])
        errors[model] = float(100 * np.sqrt(np.mean(np.square(misses))))
    return errors


def _fits_without_each(model: str, processes: FloatArray, speed: FloatArray, places: IntArray) -> list[Fit]:
    if model == KNEE:
        kept = [np.arange(len(processes)) != place for place in places]
        return [fit_knee(processes[keep], speed[keep]) for keep in kept]
    speeds = np.tile(speed, (len(places), 1))
    weights = 1 / speeds
    weights[np.arange(len(places)), places] = 0.0
    return _usl_fits(processes, speeds, weights, decline=model == USL)


def choose_model(processes: IntArray, log_rps: FloatArray) -> ModelChoice | None:
    """Choose and fit a model for one curve.

    Parameters
    ----------
    processes : array
        Process counts, ascending.
    log_rps : array, blocks x counts
        Log goodput; counts without any value are left out.

    Returns
    -------
    ModelChoice or None
        ``None`` below five counts or six blocks.
    """
    present = np.isfinite(log_rps)
    usable = present.any(axis=0)
    n = processes[usable].astype(np.float64)
    if len(n) < COUNTS_FOR_MODEL or len(log_rps) < BLOCKS_FOR_MODEL:
        return None
    values = np.where(present, log_rps, 0.0)[:, usable]
    weights = present[:, usable].astype(np.float64)
    speed = np.exp(values.sum(axis=0) / weights.sum(axis=0))
    errors = leave_one_out_errors(n, speed)
    simplest_first = sorted(MODELS, key=lambda model: (round(errors[model], 2), MODELS.index(model)))
    drawn = block_weights(len(log_rps), MODEL_RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = np.exp((drawn @ values) / (drawn @ weights))
    fits = fit_each(USL, n, resampled[np.isfinite(resampled).all(axis=1)])
    tail = expanded_tail(len(log_rps))
    tails = [tail, 1 - tail]
    betas = np.array([fit.beta for fit in fits])
    beta_low, beta_high = (float(bound) for bound in np.quantile(betas, tails))
    # a USL that fits badly bends down to follow a plateau: only where it predicts best is it believed
    bend = beta_low * n.max() * (n.max() - 1)
    declines = bool(simplest_first[0] == USL and bend > NEGLIGIBLE_BEND)
    peaks = [fit.peak for fit in fits if fit.peak is not None]
    peak_low, peak_high = np.quantile(peaks, tails) if declines and peaks else (None, None)
    return ModelChoice(
        fit=fit_model(simplest_first[0], n, speed),
        errors_percent=errors,
        beta_low=beta_low,
        beta_high=beta_high,
        peak_low=None if peak_low is None else float(peak_low),
        peak_high=None if peak_high is None else float(peak_high),
        declines=declines,
        range=(int(n.min()), int(n.max())),
    )


def band_without(processes: IntArray, log_rps: FloatArray, left_out: int) -> tuple[float, float] | None:
    """Return where the best model, fitted without one count, expects that count.

    Parameters
    ----------
    processes : array
        Process counts.
    log_rps : array, blocks x counts
        Log goodput without missing counts.
    left_out : int
        The count.

    Returns
    -------
    tuple of float or None
        95 % block-bootstrap band of the log goodput; ``None`` with too few counts or blocks.
    """
    keep = processes != left_out
    n = processes[keep].astype(np.float64)
    if len(n) < COUNTS_FOR_MODEL - 1 or len(log_rps) < BLOCKS_FOR_MODEL:
        return None
    present = np.isfinite(log_rps[:, keep])
    values = np.where(present, log_rps[:, keep], 0.0)
    if not present.any(axis=0).all():
        return None
    errors = leave_one_out_errors(n, np.exp(values.sum(axis=0) / present.sum(axis=0)))
    model = min(MODELS, key=lambda name: errors[name])
    drawn = block_weights(len(log_rps), MODEL_RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = np.exp((drawn @ values) / (drawn @ present.astype(np.float64)))
    place = np.array([left_out], dtype=np.float64)
    fits = fit_each(model, n, resampled[np.isfinite(resampled).all(axis=1)])
    expected = [float(np.log(fit.predict(place)[0])) for fit in fits]
    tail = expanded_tail(len(log_rps))
    low, high = np.quantile(expected, [tail, 1 - tail])
    return float(low), float(high)
