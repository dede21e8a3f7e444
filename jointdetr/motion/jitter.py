"""How much a film's poses shake: the mean acceleration of the joints, added up row by row.

Shape vocabulary: frames, joints. Positions are millimetres; times are seconds and grow.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, Any]


def acceleration(joints: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Accelerations `(frames - 2, joints, 3)` mm/s^2 of joints `(frames, joints, 3)` in the middle of three frames."""
    steps_s = np.diff(times_s)[:, None, None]  # (frames - 1, 1, 1)
    velocity = np.diff(joints, axis=0) / steps_s
    return np.diff(velocity, axis=0) / ((steps_s[1:] + steps_s[:-1]) / 2)


@dataclass
class Jitter:
    """The size of the accelerations of a film's joints, as far as it is gone through."""

    total: float = 0.0  # mm/s^2
    count: int = 0  # of joints in three frames running

    def mean(self) -> float:
        """Mean acceleration in mm/s^2; NaN where there is none."""
        return self.total / self.count if self.count else float("nan")


def measure_jitter(rows: Iterable[Row], jitter: Jitter) -> Iterator[Row]:
    """Hand rows on, and add the acceleration of their joints to `jitter`."""
    last: dict[int, list[Row]] = {}
    for row in rows:
        three = last[row["person"]] = [*last.get(row["person"], [])[-2:], row]
        if len(three) == 3:
            joints = np.array([each["joints"] for each in three], dtype=np.float64)
            sizes = np.linalg.norm(acceleration(joints, np.array([each["time_s"] for each in three])), axis=-1)
            jitter.total += float(np.nansum(sizes))
            jitter.count += int(np.isfinite(sizes).sum())
        yield row
