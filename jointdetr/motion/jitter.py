"""How much a motion shakes, how far its accelerations are off, and by how much it is late.

Shape vocabulary: frames, joints. Positions are millimetres; times are seconds and grow.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

Row = dict[str, Any]


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
