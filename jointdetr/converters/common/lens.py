"""Lenses that bend straight lines: where a joint is seen, and the camera without a lens that comes closest to it.

Pictures are kept as they were taken, and 2D labels lie where the joints are seen in them. Rows have a 3x3 camera
matrix, which cannot bend anything; it is the linear map that touches the true one at the person, exact in the middle
of the joints and off by a fraction of a pixel at their borders.

Shape vocabulary: `joints` (J). Normalised points are (x / z, y / z) in camera axes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Lens = Callable[[np.ndarray], np.ndarray]
"""Where a lens moves normalised points: `(joints, 2)` -> `(joints, 2)`."""

DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Human36mLens:
    """Human3.6M's lens; its tangential part is half of OpenCV's in two of four terms.

    Args:
        radial: `k1, k2, k3`.
        tangential: `p1, p2`.
    """

    radial: tuple[float, ...]
    tangential: tuple[float, ...]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Move normalised points `(joints, 2)`."""
        squared = (points**2).sum(axis=-1, keepdims=True)  # (joints, 1)
        powers = squared ** np.arange(1, 1 + len(self.radial))
        swapped = np.array(self.tangential)[::-1]
        gain = 1.0 + powers @ np.array(self.radial)[:, None] + points @ swapped[:, None]
        return points * gain + squared * swapped


def see(joints_camera: np.ndarray, intrinsics: np.ndarray, lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    """Project joints through a lens.

    Args:
        joints_camera: `(joints, 3)` in camera axes, in front of the camera.
        intrinsics: `(3, 3)` px, behind the lens.
        lens: bends.

    Returns:
        Where the joints are seen, `(joints, 2)` px, and the camera matrix `(3, 3)` without a lens that does the same
        to first order around their middle.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # the checks say what is wrong with them
        points = joints_camera[:, :2] / joints_camera[:, 2:]
        bent = lens(points) @ intrinsics[:2, :2].T + intrinsics[:2, 2]
        return bent, tangent_intrinsics(intrinsics, lens, points.mean(axis=0))


def tangent_intrinsics(intrinsics: np.ndarray, lens: Lens, direction: np.ndarray) -> np.ndarray:
    """Camera matrix `(3, 3)` that does the same as lens and `intrinsics` to first order around a direction `(2,)`."""
    steps = DIFFERENCE * np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [0, 0]])
    right, left, below, above, middle = lens(direction + steps)
    jacobian = np.stack([right - left, below - above], axis=1) / (2 * DIFFERENCE)  # (2, 2)
    linear = intrinsics[:2, :2] @ jacobian
    offset = intrinsics[:2, :2] @ (middle - jacobian @ direction) + intrinsics[:2, 2]
    return np.block([[linear, offset[:, None]], [np.array([[0.0, 0.0, 1.0]])]])
