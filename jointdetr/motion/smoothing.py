"""Steadier motion from poses of single frames: One-Euro while it happens, a smoothing spline afterwards.

Both take frames at uneven times and joints that are missing (NaN) now and then. The One-Euro filter is for live
pictures: it sees the past alone, and so is late, by `OneEuroFilter.delay_s`. The spline sees past and future and is
not late.

Shape vocabulary: frames, points (mostly joints), channels (3 for mm, 2 for px). Times are seconds and grow.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.interpolate import CubicSpline, make_smoothing_spline

Method = Literal["offline", "one-euro", "none"]
METHODS: tuple[Method, ...] = ("offline", "one-euro", "none")
GUESS_WEIGHT = 0.1  # of a joint that was not detected, against 1 for one that was
LONGEST_SHARE_S = 0.1  # of time that one frame stands for at most
SPLINE_MINIMUM = 5  # points that SciPy's smoothing spline needs


@dataclass(frozen=True)
class SmoothingSettings:
    """How to smooth.

    Args:
        method: "offline" (a spline, no delay), "one-euro" (online, some delay) or "none".
        cutoff_hz: The spline halves a movement of this frequency and lets slower ones pass.
        min_cutoff_hz: The One-Euro filter's cutoff for a joint at rest.
        beta: What the One-Euro filter adds to it, Hz for each mm/s of speed.
        speed_cutoff_hz: The cutoff at which the One-Euro filter smooths the speed itself.
        max_gap_s: A joint that is missing for longer starts anew; the spline fills shorter gaps.

    Raises:
        ValueError: A value out of its range.
    """

    method: Method = "offline"
    cutoff_hz: float = 4.0
    min_cutoff_hz: float = 1.0
    beta: float = 0.002
    speed_cutoff_hz: float = 1.0
    max_gap_s: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {self.method!r}")
        for name in ("cutoff_hz", "min_cutoff_hz", "speed_cutoff_hz", "max_gap_s"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")
        if not 0 <= self.beta < np.inf:
            raise ValueError(f"`beta` must be 0 or more, got {self.beta}")


class OneEuroFilter:
    """The One-Euro filter: a low-pass filter whose cutoff grows with speed, for each point by itself.

    Casiez, Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
    Systems", CHI 2012. The speed is that of the point in space, so that turning the axes changes nothing.
    """

    def __init__(self, settings: SmoothingSettings) -> None:
        self.settings = settings
        self._seen_s: np.ndarray | None = None  # (points,), when each point was last there
        self._raw = self._smooth = self._velocity = np.empty(0)  # (points, channels)

    def __call__(self, values: np.ndarray, time_s: float, mm_per_unit: float = 1.0) -> np.ndarray:
        """Smooth the points of the next frame.

        Args:
            values: `(points, channels)`; a point with a NaN is missing, and stays so.
            time_s: Its time, later than that of the frame before.
            mm_per_unit: What the values' unit is in mm, about, for values in px.

        Returns:
            `(points, channels)`, smoothed.
        """
        if self._seen_s is None:
            self._seen_s = np.full(len(values), -np.inf)
            self._raw, self._smooth, self._velocity = (np.full(values.shape, np.nan) for _ in range(3))
        known = np.isfinite(values).all(-1)
        step_s = time_s - self._seen_s  # (points,)
        is_new = known & (step_s > self.settings.max_gap_s)
        self._raw[is_new], self._smooth[is_new], self._velocity[is_new] = values[is_new], values[is_new], 0.0
        going_on = known & ~is_new
        self._advance(going_on, values[going_on], step_s[going_on, None], mm_per_unit)
        self._seen_s[known] = time_s
        return np.where(known[:, None], self._smooth, np.nan)

    def _advance(self, chosen: np.ndarray, values: np.ndarray, step_s: np.ndarray, mm_per_unit: float) -> None:
        """Take the chosen points on by one frame, `step_s` (chosen, 1) after they were last there."""
        velocity = (values - self._raw[chosen]) / step_s
        share = _new_share(self.settings.speed_cutoff_hz, step_s)
        self._velocity[chosen] += share * (velocity - self._velocity[chosen])
        speed = np.linalg.norm(self._velocity[chosen], axis=-1, keepdims=True) * mm_per_unit  # (chosen, 1) mm/s
        share = _new_share(self.settings.min_cutoff_hz + self.settings.beta * speed, step_s)
        self._smooth[chosen] += share * (values - self._smooth[chosen])
        self._raw[chosen] = values

    def delay_s(self, speed: float) -> float:
        """By how much a point is late that moves steadily at `speed` mm/s: 1 / (2 pi cutoff) seconds."""
        return 1 / (2 * np.pi * (self.settings.min_cutoff_hz + self.settings.beta * speed))


def _new_share(cutoff_hz: float | np.ndarray, step_s: np.ndarray) -> np.ndarray:
    """Share of the new value in the average of an exponential filter, by the time since the last one."""
    return step_s / (step_s + 1 / (2 * np.pi * cutoff_hz))


def smooth_offline(
    values: np.ndarray, times_s: np.ndarray, weights: np.ndarray, settings: SmoothingSettings
) -> np.ndarray:
    """Smooth whole motions with cubic smoothing splines, without delay.

    The spline f minimises the integral of (f - value)^2 + f''^2 / (2 pi cutoff)^4 over time: it pulls straight what
    accelerates without need. For even times that is the zero-phase second-order Butterworth filter of biomechanics,
    whose gain is 1 / (1 + (frequency / cutoff)^4); unlike the latter it takes uneven times and gaps as they are.

    Args:
        values: `(frames, points, channels)`; NaN where missing.
        times_s: `(frames,)`, growing.
        weights: `(frames, points)`, trust in each value, about 1.
        settings: `cutoff_hz` and `max_gap_s` count.

    Returns:
        `(frames, points, channels)`: gaps of up to `max_gap_s` are filled, longer ones stay NaN.

    Raises:
        ValueError: The times do not grow.
    """
    if not (np.diff(times_s) > 0).all():
        raise ValueError(f"`times_s` must grow from frame to frame, got steps from {np.diff(times_s).min()} s")
    result = np.full(values.shape, np.nan)
    known = np.isfinite(values).all(-1) & (weights > 0)  # (frames, points)
    for point in range(values.shape[1]):
        for run in _runs(np.flatnonzero(known[:, point]), times_s, settings.max_gap_s):
            samples = values[run, point], times_s[run], weights[run, point]
            whole = slice(run[0], run[-1] + 1)
            result[whole, point] = _evaluate_spline(samples, times_s[whole], settings.cutoff_hz)
    return result


def _runs(frames: np.ndarray, times_s: np.ndarray, max_gap_s: float) -> list[np.ndarray]:
    """Split frames where the time between two of them is too long."""
    if not len(frames):
        return []
    return np.split(frames, np.flatnonzero(np.diff(times_s[frames]) > max_gap_s) + 1)


def _evaluate_spline(
    samples: tuple[np.ndarray, np.ndarray, np.ndarray], at_s: np.ndarray, cutoff_hz: float
) -> np.ndarray:
    """Fit values `(samples, channels)` at times with weights `(samples,)`; return `(times, channels)` at `at_s`."""
    values, times_s, weights = samples
    if len(values) < SPLINE_MINIMUM:
        return np.stack([np.interp(at_s, times_s, channel) for channel in values.T], -1)
    # A sample counts by the time it stands for, so that the cutoff is the same at any rate of frames.
    weights = weights * np.minimum(np.gradient(times_s), LONGEST_SHARE_S)
    penalty = (2 * np.pi * cutoff_hz) ** -4
    # SciPy before 1.15 takes one channel at a time.
    return np.stack([make_smoothing_spline(times_s, channel, weights, penalty)(at_s) for channel in values.T], -1)


def acceleration(joints: np.ndarray, times_s: np.ndarray | None = None) -> np.ndarray:
    """Second differences of positions.

    Args:
        joints: `(frames, joints, 3)` mm; NaN where missing.
        times_s: `(frames,)`; without them the unit is mm/frame^2.

    Returns:
        `(frames - 2, joints, 3)` mm/s^2, or mm/frame^2, in the middle of three frames; NaN where one is missing.
    """
    if times_s is None:
        return joints[2:] - 2 * joints[1:-1] + joints[:-2]
    steps_s = np.diff(times_s)[:, None, None]  # (frames - 1, 1, 1)
    velocity = np.diff(joints, axis=0) / steps_s
    return np.diff(velocity, axis=0) / ((steps_s[1:] + steps_s[:-1]) / 2)


def mean_acceleration(joints: np.ndarray, times_s: np.ndarray | None = None) -> float:
    """Mean size of the [`acceleration`], in its units: how much a motion jitters, where the truth is not known."""
    return _mean_norm(acceleration(joints, times_s))


def acceleration_error(predicted: np.ndarray, target: np.ndarray, times_s: np.ndarray | None = None) -> float:
    """Mean distance between predicted and true accelerations, over all joints that have both.

    In mm/frame^2 it is the "acceleration error" of Kanazawa et al., "Learning 3D Human Dynamics from Video", CVPR
    2019, which says little without the rate of the frames.

    Args:
        predicted: `(frames, joints, 3)` root-relative mm; NaN where missing.
        target: `(frames, joints, 3)` root-relative mm.
        times_s: `(frames,)`; without them the unit is mm/frame^2, with them mm/s^2.

    Returns:
        The mean; NaN where no joint is there in three frames running.
    """
    return _mean_norm(acceleration(predicted, times_s) - acceleration(target, times_s))


def _mean_norm(vectors: np.ndarray) -> float:
    """Mean length of the vectors `(..., 3)` that are not NaN."""
    norms = np.linalg.norm(vectors, axis=-1)
    norms = norms[np.isfinite(norms)]
    return float(norms.mean()) if len(norms) else float("nan")


def measure_delay_s(reference: np.ndarray, motion: np.ndarray, times_s: np.ndarray, longest_s: float = 0.5) -> float:
    """Find by how much a motion is late: the delay of the reference that fits it best.

    Args:
        reference: `(frames, joints, 3)`, a motion that is not late and does not jitter: the truth, or what the offline
            smoother makes of it. Frames in which anything is missing are left out.
        motion: `(frames, joints, 3)`.
        times_s: `(frames,)`, growing.
        longest_s: Longest delay to try, in steps of a millisecond.

    Returns:
        Seconds; NaN where the motion is shorter than twice the longest delay.
    """
    whole = np.isfinite(reference).all((1, 2)) & np.isfinite(motion).all((1, 2))
    times_s = times_s[whole]
    reference, motion = (values[whole].reshape(len(times_s), -1) for values in (reference, motion))
    later = times_s >= times_s[0] + longest_s if len(times_s) else np.zeros(0, bool)
    if not later.any() or times_s[-1] - times_s[0] < 2 * longest_s:
        return float("nan")

    between_frames = CubicSpline(times_s, reference)

    def misfit(delay_s: float) -> float:
        return float(((between_frames(times_s[later] - delay_s) - motion[later]) ** 2).sum())

    return min((step / 1000 for step in range(int(longest_s * 1000) + 1)), key=misfit)
