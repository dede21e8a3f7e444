"""Steadier motion from poses of single frames: One-Euro while it happens, a smoothing spline afterwards.

Both take frames at uneven times and joints that are missing (NaN) now and then. A table of any length is smoothed in
stretches that overlap by seconds: what is farther away changes nothing any more.

Shape vocabulary: frames, points (mostly joints), channels (3 for mm, 2 for px). Times are seconds and grow.
`rows` are those of `jointdetr.motion.motion_schema`, in the order of time.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.interpolate import make_smoothing_spline

from ..formats.motions import PoseMotion, motion_rows, motions_from_rows
from ..skeleton_jointdetr import Skeleton

Method = Literal["offline", "one-euro", "none"]
METHODS: tuple[Method, ...] = ("offline", "one-euro", "none")
GUESS_WEIGHT = 0.1  # of a joint that was not detected, against 1 for one that was
LONGEST_SHARE_S = 0.1  # of time that one frame stands for at most
SPLINE_MINIMUM = 5  # points that SciPy's smoothing spline needs
STRETCH_S = 60.0  # of a table that is smoothed at once
OVERLAP_S = 4.0  # by then either smoother has forgotten all but a millionth
PERSON_MM = 1700.0  # the longer side of a person's box is about this, which tells what a pixel is
Row = dict[str, Any]


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
    Systems", CHI 2012. The speed is that of the point in space, so that turning the axes changes nothing. A point that
    moves steadily is late by 1 / (2 pi cutoff) seconds.
    """

    def __init__(self, settings: SmoothingSettings) -> None:
        self.settings = settings
        self._seen_s: np.ndarray | None = None  # (points,), when each point was last there
        self._raw = self._smooth = self._velocity = np.empty(0)  # (points, channels)

    def __call__(self, values: np.ndarray, time_s: float, mm_per_unit: float = 1.0) -> np.ndarray:
        """Smooth the points `(points, channels)` of the next frame; one with a NaN is missing, and stays so.

        `mm_per_unit` says what the values' unit is in mm, about, for values in px.
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


def _new_share(cutoff_hz: float | np.ndarray, step_s: np.ndarray) -> np.ndarray:
    """Share of the new value in the average of an exponential filter, by the time since the last one."""
    return step_s / (step_s + 1 / (2 * np.pi * cutoff_hz))


def smooth_offline(
    values: np.ndarray, times_s: np.ndarray, weights: np.ndarray, settings: SmoothingSettings
) -> np.ndarray:
    """Smooth `(frames, points, channels)` by cubic splines, without delay; weights `(frames, points)` are about 1.

    The spline f minimises the integral of (f - value)^2 + f''^2 / (2 pi cutoff)^4 over time: it pulls straight what
    accelerates without need. For even times that is the zero-phase second-order Butterworth filter of biomechanics,
    whose gain is 1 / (1 + (frequency / cutoff)^4); unlike the latter it takes uneven times and gaps as they are.
    """
    result = np.full(values.shape, np.nan)
    known = np.isfinite(values).all(-1) & (weights > 0)  # (frames, points)
    for point in range(values.shape[1]):
        frames = np.flatnonzero(known[:, point])
        breaks = np.flatnonzero(np.diff(times_s[frames]) > settings.max_gap_s) + 1
        for run in np.split(frames, breaks) if len(frames) else ():
            samples = values[run, point], times_s[run], weights[run, point]
            whole = slice(run[0], run[-1] + 1)
            result[whole, point] = _evaluate_spline(samples, times_s[whole], settings.cutoff_hz)
    return result


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


def smooth_motion(motion: PoseMotion, settings: SmoothingSettings) -> PoseMotion:
    """Smooth one person's joints, in 3D and in the picture, and the way through the camera's space.

    Joints that were not detected are guesses and count for little. `detected`, `scores` and `boxes` stay as they are.
    With "offline", joints that are missing for a short time are filled in.
    """
    if settings.method == "none":
        return motion

    def smooth(values: np.ndarray, weights: np.ndarray, mm_per_unit: np.ndarray) -> np.ndarray:
        if settings.method == "offline":
            return smooth_offline(values, motion.times_s, weights, settings)
        one_euro = OneEuroFilter(settings)
        return np.stack([one_euro(*moment) for moment in zip(values, motion.times_s, mm_per_unit, strict=True)])

    weights, in_mm = np.where(motion.detected, 1.0, GUESS_WEIGHT), np.ones(len(motion))
    joints_2d, root = motion.joints_2d, motion.root_camera
    if joints_2d is not None:
        joints_2d = smooth(joints_2d, weights, _mm_per_px(motion))
    if root is not None:
        root = smooth(root[:, None], in_mm[:, None], in_mm)[:, 0]
    return replace(motion, joints=smooth(motion.joints, weights, in_mm), joints_2d=joints_2d, root_camera=root)


def _mm_per_px(motion: PoseMotion) -> np.ndarray:
    """About how many millimetres a pixel is at the person, `(frames,)`."""
    if motion.boxes is not None:
        return PERSON_MM / motion.boxes[:, 2:].max(-1)
    extents = np.nanmax(motion.joints_2d, 1) - np.nanmin(motion.joints_2d, 1)  # (frames, 2)
    return PERSON_MM / np.maximum(np.nanmax(extents, -1), 1.0)


def smooth_rows(rows: Iterable[Row], skeleton: Skeleton, settings: SmoothingSettings) -> Iterator[Row]:
    """Smooth a table of poses of any length, its rows ordered by frame, in the memory of a minute."""
    if settings.method == "none":
        yield from rows
        return
    held: list[Row] = []
    begin_s = -np.inf  # of the stretch that is to be given out next

    def stretch(end_s: float) -> list[Row]:
        motions = [smooth_motion(motion, settings) for motion in motions_from_rows(held, skeleton)]
        return [row for row in motion_rows(motions) if begin_s <= row["time_s"] < end_s]

    for row in rows:
        held.append(row)
        begin_s = row["time_s"] if begin_s == -np.inf else begin_s
        if row["time_s"] > begin_s + STRETCH_S + OVERLAP_S:
            yield from stretch(begin_s + STRETCH_S)
            begin_s += STRETCH_S
            held = [old for old in held if old["time_s"] >= begin_s - OVERLAP_S]
    yield from stretch(np.inf)


class LiveSmoother:
    """Smooths the rows of one frame after another as they come, by One-Euro filters for each person."""

    def __init__(self, settings: SmoothingSettings) -> None:
        self._filters = defaultdict(lambda: (OneEuroFilter(settings), OneEuroFilter(settings)))  # of joints and points

    def __call__(self, rows: Iterable[Row]) -> list[Row]:
        """Smooth the rows of a frame, in mm and in px; it is later than the one before."""
        smooth = []
        for row in rows:
            of_joints, of_points = self._filters[row["person"]]
            joints = of_joints(row["joints"], row["time_s"])
            points = of_points(row["joints_2d"], row["time_s"], PERSON_MM / max(row["box"][2:]))
            smooth.append({**row, "joints": joints, "joints_2d": points})
        return smooth
