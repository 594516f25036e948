"""Exact Gaussian processes with a squared-exponential kernel, in float64, for up to a few hundred evaluations.

Two ways to choose the kernel. `fit_wellposed`: amplitude, length scale and noise by likelihood and weak priors.
`fit_legacy`: the released code's unit amplitude without noise, whose length scale alone is fitted.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, lapack, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist, pdist

Array = NDArray[np.float64]
TargetScaling = Literal["none", "centre", "standardise"]
"""What is done to targets before they are fitted, and undone in predictions."""

_JITTER = 1e-10  # keeps the kernel matrix of exact observations factorisable
_LEGACY_BOUNDS = (1e-5, 1e5)
_NO_CORRELATION = 1e-9  # also the distance from full correlation


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """amplitude * exp(-|x - x'|**2 / (2 length_scale**2)), and the variance of noise on observations.

    Raises:
        ValueError: a value is not positive and finite.
    """

    length_scale: float = 1.0
    amplitude: float = 1.0
    """Prior variance, in squared units of the scaled targets."""
    noise: float = _JITTER
    """Variance of the noise, in the same units. Predicted deviations do not contain it."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("length_scale", "amplitude", "noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} of a kernel is {value}; a positive number is needed")

    def correlation(self, squared_distances: Array) -> Array:
        """Correlations at squared distances, of the same shape; a product over the dimensions of a grid."""
        return np.exp(squared_distances * (-0.5 / self.length_scale**2))


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianProcess:
    """A process conditioned on observations: n points of D features.

    Attributes:
        kernel: of the scaled targets.
        features: (n, D) observed points.
        weights: (n,) inverse covariance times scaled targets.
        whitening: (n, n) lower triangular; the inverse of the covariance's Cholesky factor.
        offset: mean that was taken off the targets.
        scale: deviation that they were divided by; targets = offset + scale * scaled targets.
    """

    kernel: Kernel
    features: Array
    weights: Array
    whitening: Array
    offset: float
    scale: float

    @property
    def is_degenerate(self) -> bool:
        """Whether several observed points tell nothing about one another, or are all the same to the process.

        Without noise and priors the length scale of few points often runs away; predictions are then the offset.
        """
        correlation = self.kernel.correlation(pdist(self.features, "sqeuclidean"))
        if not len(correlation):
            return False
        return bool(correlation.max() < _NO_CORRELATION or correlation.min() > 1 - _NO_CORRELATION)

    def predict(self, features: ArrayLike) -> tuple[Array, Array]:
        """Posterior means and deviations at points, (N,) each, in units of the targets.

        Args:
            features: (N, D). Memory grows with N * n; split what is large.

        Raises:
            ValueError: the points have another number of features than those observed.
        """
        points = np.asarray(features, np.float64)
        if points.ndim != 2 or points.shape[1] != self.features.shape[1]:
            raise ValueError(f"points of shape {points.shape}; (N, {self.features.shape[1]}) is needed")
        correlation = self.kernel.correlation(cdist(points, self.features, "sqeuclidean"))  # (N, n)
        explained = np.square(correlation @ self.whitening.T).sum(1)
        return self.mean_of(correlation @ self.weights), self.deviation_of(explained)

    def mean_of(self, weighted_correlation: Array) -> Array:
        """Means in units of the targets, from sums of correlations times `weights`."""
        return self.offset + (self.scale * self.kernel.amplitude) * weighted_correlation

    def deviation_of(self, explained: Array) -> Array:
        """Deviations in units of the targets, from squared norms of `whitening` times correlations."""
        amplitude = self.kernel.amplitude
        return self.scale * np.sqrt(np.maximum(amplitude - amplitude**2 * explained, 0.0))


def condition(
    features: ArrayLike, targets: ArrayLike, kernel: Kernel, *, scaling: TargetScaling = "none"
) -> GaussianProcess:
    """The process of a given kernel.

    Args:
        features: (n, D), n at least 1.
        targets: (n,).
        kernel: applied to scaled targets.
        scaling: of the targets; "standardise" divides by the population deviation, or by 1 where that is 0.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or a covariance that is singular because points
            coincide.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1.
    """
    points, values = _observations(features, targets)
    scaled, offset, scale = _scaled(values, scaling)
    covariance = kernel.amplitude * kernel.correlation(cdist(points, points, "sqeuclidean"))
    np.fill_diagonal(covariance, kernel.amplitude + kernel.noise)
    factor, failed = lapack.dpotrf(covariance, lower=1)
    if failed:
        raise ValueError(f"the covariance of {len(points)} points is singular: give each point once, or more noise")
    return GaussianProcess(
        kernel=kernel,
        features=points,
        weights=cho_solve((factor, True), scaled),
        whitening=solve_triangular(factor, np.eye(len(points)), lower=True),
        offset=offset,
        scale=scale,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """What is maximised, in logarithms of (length scale, amplitude, noise); P of them are free, the first ones."""

    starts: Array  # (S, P)
    bounds: Array  # (P, 2)
    prior_means: Array  # (P,)
    prior_precisions: Array  # (P,), 0 for none
    fixed: Array  # (3 - P,)


def fit_wellposed(features: ArrayLike, targets: ArrayLike) -> GaussianProcess:
    """Fit to standardised targets with noise, by marginal likelihood and weak log-normal priors.

    The priors keep the kernel sensible from the first point on: medians are sqrt(D) for the length scale, 1 for the
    amplitude and 0.05 for the noise. The released code has neither noise nor priors (`fit_legacy`).

    Args:
        features: (n, D), scaled to deviation 1 over the space; n at least 1.
        targets: (n,).

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.
    """
    points, values = _observations(features, targets)
    root = math.sqrt(points.shape[1])
    plan = _Plan(
        starts=np.log([[root, 1.0, 0.05], [0.5 * root, 1.0, 0.3]]),
        bounds=np.log([[0.05 * root, 20 * root], [0.05, 20], [1e-6, 2]]),
        prior_means=np.log([root, 1.0, 0.05]),
        prior_precisions=np.array([1.0, 1.0, 1 / 1.5**2]),
        fixed=np.empty(0),
    )
    return condition(
        points, values, _most_likely(points, _scaled(values, "standardise")[0], plan), scaling="standardise"
    )


def fit_legacy(
    features: ArrayLike,
    targets: ArrayLike,
    *,
    scaling: TargetScaling,
    num_restarts: int = 0,
    random: np.random.Generator | None = None,
) -> GaussianProcess:
    """Fit the length scale alone, by marginal likelihood, as the released code does with scikit-learn.

    The result may be degenerate (`GaussianProcess.is_degenerate`), most often that of few points.

    Args:
        features: (n, D), n at least 1.
        targets: (n,).
        scaling: "none" in MFKD1; in MFKD2 "centre" up to scikit-learn 0.22, which the published figures come from,
            and "standardise" since.
        num_restarts: further starts, log-uniform within the bounds; the first is 1.
        random: where they come from.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, two equal points, or restarts without `random`.

    Source: Trofimov et al., released code (notebook and Vega); Rasmussen and Williams, section 5.4.1.
    """
    points, values = _observations(features, targets)
    if num_restarts and random is None:
        raise ValueError(f"{num_restarts} restarts need a random generator")
    _check_distinct(points)
    bounds = np.log([_LEGACY_BOUNDS])
    further = [random.uniform(*bounds.T) for _ in range(num_restarts)] if random is not None else []
    plan = _Plan(
        starts=np.array([[0.0], *further]),
        bounds=bounds,
        prior_means=np.zeros(1),
        prior_precisions=np.zeros(1),
        fixed=np.log([1.0, _JITTER]),
    )
    kernel = _most_likely(points, _scaled(values, scaling)[0], plan)
    return condition(points, values, kernel, scaling=scaling)


def _most_likely(points: Array, targets: Array, plan: _Plan) -> Kernel:
    """The best of the optima that are reached from the plan's starts."""
    distances = cdist(points, points, "sqeuclidean")
    found = [
        minimize(_cost, start, (distances, targets, plan), method="L-BFGS-B", jac=True, bounds=plan.bounds)
        for start in plan.starts
    ]
    best = min(found, key=lambda result: float(result.fun))
    length_scale, amplitude, noise = np.exp(np.concatenate([best.x, plan.fixed])).tolist()
    return Kernel(length_scale=length_scale, amplitude=amplitude, noise=noise)


def _cost(logs: Array, distances: Array, targets: Array, plan: _Plan) -> tuple[float, Array]:
    """Negative logarithm of the likelihood, less that of the priors but for their constants, and its gradient.

    Source: Rasmussen and Williams, equations 5.8 and 5.9.
    """
    length_scale, amplitude, noise = np.exp(np.concatenate([logs, plan.fixed]))
    scaled_distances = distances / length_scale**2
    signal = amplitude * np.exp(-0.5 * scaled_distances)
    covariance = signal.copy()
    covariance.flat[:: len(targets) + 1] += noise
    factor, failed = lapack.dpotrf(covariance, lower=1, clean=1)
    if failed:
        return math.inf, np.zeros_like(logs)
    weights = lapack.dpotrs(factor, targets, lower=1)[0]
    lower = lapack.dpotri(factor, lower=1)[0]  # of the inverse
    inverse = lower + np.tril(lower, -1).T
    outer = np.outer(weights, weights) - inverse
    by_signal = outer * signal
    slopes = (
        -0.5 * np.array([(by_signal * scaled_distances).sum(), by_signal.sum(), noise * outer.trace()])[: len(logs)]
    )
    away = logs - plan.prior_means
    penalty = 0.5 * float(plan.prior_precisions @ away**2)
    # the constant matters: the optimiser stops at a relative change, and on the plateaus of short scales it decides
    constant = 0.5 * len(targets) * math.log(2 * math.pi)
    value = 0.5 * float(targets @ weights) + float(np.log(factor.diagonal()).sum()) + constant + penalty
    return value, slopes + plan.prior_precisions * away


def _observations(features: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    points, values = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if points.ndim != 2 or values.shape != points.shape[:1] or 0 in points.shape:
        raise ValueError(
            f"features {points.shape} and targets {values.shape}: (n, D) and (n,) are needed, n and D >= 1"
        )
    if not (np.isfinite(points).all() and np.isfinite(values).all()):
        raise ValueError("features and targets of a Gaussian process must be finite numbers")
    return points, values


def _scaled(values: Array, scaling: TargetScaling) -> tuple[Array, float, float]:
    """Scaled targets, offset, scale."""
    offset = 0.0 if scaling == "none" else float(values.mean())
    scale = float(values.std()) if scaling == "standardise" else 1.0
    # the deviation of equal numbers is not exactly 0, and must not blow their rounding errors up
    if scale <= 10 * np.finfo(np.float64).eps * max(1.0, abs(offset)):
        scale = 1.0
    return (values - offset) / scale, offset, scale


def _check_distinct(points: Array) -> None:
    distances = cdist(points, points, "sqeuclidean")
    np.fill_diagonal(distances, np.inf)
    if len(points) > 1 and not distances.min() > 0:
        first, second = np.unravel_index(distances.argmin(), distances.shape)
        raise ValueError(f"points {first} and {second} are equal: a process without noise takes each point once")
