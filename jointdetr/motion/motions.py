"""Smoothing of motions and of tables of poses, and how much they jitter.

A table of any length is smoothed in stretches that overlap by seconds: what is farther away changes nothing any more.

Shape vocabulary: frames, joints. `rows` are those of `jointdetr.motion.motion_schema`, in the order of time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..formats.motions import PoseMotion, motion_rows, motions_from_rows
from ..skeleton_jointdetr import Skeleton
from .smoothing import GUESS_WEIGHT, OneEuroFilter, SmoothingSettings, acceleration, smooth_offline

STRETCH_S = 60.0
OVERLAP_S = 4.0  # by then either smoother has forgotten all but a millionth
PERSON_MM = 1700.0  # the longer side of a person's box is about this, which tells what a pixel is
Row = dict[str, Any]


def smooth_motion(motion: PoseMotion, settings: SmoothingSettings) -> PoseMotion:
    """Smooth one person's joints, in 3D and in the picture, and the way through the camera's space.

    Joints that were not detected are guesses and count for little. `detected`, `scores` and `boxes` stay as they are.

    Args:
        motion: The motion of one person.
        settings: What to do.

    Returns:
        Another motion of the same frames. With "offline", joints that are missing for a short time are filled in.
    """
    if settings.method == "none":
        return motion
    weights = np.where(motion.detected, 1.0, GUESS_WEIGHT)
    joints = _smooth(motion.joints, motion, weights, settings)
    joints_2d, root = motion.joints_2d, motion.root_camera
    if joints_2d is not None:
        joints_2d = _smooth(joints_2d, motion, weights, settings, _mm_per_px(motion))
    if root is not None:
        root = _smooth(root[:, None], motion, np.ones((len(motion), 1)), settings)[:, 0]
    return replace(motion, joints=joints, joints_2d=joints_2d, root_camera=root)


def _smooth(
    values: np.ndarray,
    motion: PoseMotion,
    weights: np.ndarray,
    settings: SmoothingSettings,
    mm_per_unit: np.ndarray | None = None,
) -> np.ndarray:
    """Smooth `(frames, points, channels)` at the motion's times; `mm_per_unit` `(frames,)` is 1 by default."""
    if settings.method == "offline":
        return smooth_offline(values, motion.times_s, weights, settings)
    one_euro = OneEuroFilter(settings)
    scales = np.ones(len(motion)) if mm_per_unit is None else mm_per_unit
    moments = zip(values, motion.times_s, scales, strict=True)
    return np.stack([one_euro(of_frame, time_s, scale) for of_frame, time_s, scale in moments])


def _mm_per_px(motion: PoseMotion) -> np.ndarray:
    """About how many millimetres a pixel is at the person, `(frames,)`."""
    if motion.boxes is None:
        low, high = np.nanmin(motion.joints_2d, 1), np.nanmax(motion.joints_2d, 1)
        return PERSON_MM / np.maximum((high - low).max(-1), 1.0)
    return PERSON_MM / motion.boxes[:, 2:].max(-1)


def smooth_rows(rows: Iterable[Row], skeleton: Skeleton, settings: SmoothingSettings) -> Iterator[Row]:
    """Smooth a table of poses of any length, in the memory of a minute.

    Args:
        rows: One for each person in each frame, ordered by frame.
        skeleton: Names and parents of the joints.
        settings: What to do.

    Yields:
        The rows, smoothed, in the same order.
    """
    if settings.method == "none":
        yield from rows
        return
    held: list[Row] = []
    begin_s = -np.inf  # of the stretch that is to be given out next
    for row in rows:
        held.append(row)
        begin_s = row["time_s"] if begin_s == -np.inf else begin_s
        if row["time_s"] > begin_s + STRETCH_S + OVERLAP_S:
            yield from _stretch(held, (begin_s, begin_s + STRETCH_S), skeleton, settings)
            begin_s += STRETCH_S
            held = [old for old in held if old["time_s"] >= begin_s - OVERLAP_S]
    yield from _stretch(held, (begin_s, np.inf), skeleton, settings)


def _stretch(
    rows: list[Row], span_s: tuple[float, float], skeleton: Skeleton, settings: SmoothingSettings
) -> list[Row]:
    """Smooth rows and return those of a span of time, its end excluded."""
    begin_s, end_s = span_s
    motions = [smooth_motion(motion, settings) for motion in motions_from_rows(rows, skeleton)]
    return [row for row in motion_rows(motions) if begin_s <= row["time_s"] < end_s]


class LiveSmoother:
    """Smooths the rows of one frame after another as they come, by One-Euro filters for each person.

    Args:
        settings: Those of the filters; "none" leaves the rows as they are.

    Raises:
        ValueError: The method is "offline", which needs the future.
    """

    def __init__(self, settings: SmoothingSettings) -> None:
        if settings.method == "offline":
            raise ValueError('live frames are smoothed by "one-euro" or "none", got "offline"')
        self.settings = settings
        self._filters: dict[int, tuple[OneEuroFilter, OneEuroFilter]] = {}  # by person: of joints, of their points
        self._seen_s: dict[int, float] = {}

    def __call__(self, rows: Iterable[Row], time_s: float) -> list[Row]:
        """Smooth the rows of the frame at `time_s`, which is later than the one before."""
        if self.settings.method == "none":
            return list(rows)
        gone = [person for person, seen_s in self._seen_s.items() if time_s - seen_s > self.settings.max_gap_s]
        for person in gone:
            del self._seen_s[person], self._filters[person]
        return [self._smooth(row) for row in rows]

    def _smooth(self, row: Row) -> Row:
        """Smooth one person's joints, in mm and in px."""
        person, time_s = row["person"], row["time_s"]
        self._seen_s[person] = time_s
        of_joints, of_points = self._filters.setdefault(
            person, (OneEuroFilter(self.settings), OneEuroFilter(self.settings))
        )
        points = of_points(row["joints_2d"], time_s, PERSON_MM / max(row["box"][2:]))
        return {**row, "joints": of_joints(row["joints"], time_s), "joints_2d": points}


@dataclass
class Jitter:
    """Mean acceleration of the joints of a film, added up row by row: how much the poses shake.

    Args:
        mm_per_frame2: Sum of the sizes, mm/frame^2.
        mm_per_s2: The same in mm/s^2.
        count: Number of joints in the sums.
    """

    mm_per_frame2: float = 0.0
    mm_per_s2: float = 0.0
    count: int = 0

    def means(self) -> tuple[float, float]:
        """Mean acceleration in mm/frame^2 and in mm/s^2; NaN where there is none."""
        if not self.count:
            return float("nan"), float("nan")
        return self.mm_per_frame2 / self.count, self.mm_per_s2 / self.count


def measure_jitter(rows: Iterable[Row], jitter: Jitter) -> Iterator[Row]:
    """Hand rows on, and add the acceleration of their joints to `jitter`."""
    last: dict[int, list[Row]] = {}
    for row in rows:
        three = [*last.get(row["person"], [])[-2:], row]
        last[row["person"]] = three
        if len(three) == 3:
            joints = np.array([np.asarray(each["joints"], dtype=np.float64) for each in three])
            times_s = np.array([each["time_s"] for each in three])
            sizes = np.linalg.norm(acceleration(joints)[0], axis=-1)
            sizes_s = np.linalg.norm(acceleration(joints, times_s)[0], axis=-1)
            known = np.isfinite(sizes)
            jitter.mm_per_frame2 += float(sizes[known].sum())
            jitter.mm_per_s2 += float(sizes_s[known].sum())
            jitter.count += int(known.sum())
        yield row
