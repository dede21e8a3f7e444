"""Markers for the tests of files that hold them."""

import numpy as np

from jointdetr.formats.markers import Markers


def some_markers() -> Markers:
    """Three markers of forty frames, the second missing in one, from 0.4 s on."""
    positions = np.random.default_rng(0).normal(0, 500, (40, 3, 3))
    positions[3, 1] = np.nan
    return Markers(("pelvis", "left_knee", "right_knee"), 29.97, 0.4, positions)
