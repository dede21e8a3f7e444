"""What files of marker trajectories hold, whichever kind they are."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Markers:
    """Named points through time, in even steps.

    Args:
        names: Of the points, without spaces.
        rate_hz: Frames a second.
        first_s: Time of the first frame, seconds.
        positions: `(frames, markers, 3)` mm: x right, y up, z towards the viewer; NaN where missing.
    """

    names: tuple[str, ...]
    rate_hz: float
    first_s: float
    positions: np.ndarray
