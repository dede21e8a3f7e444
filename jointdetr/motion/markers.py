"""A motion as marker trajectories, for the files of motion laboratories."""

import numpy as np

from ..formats.markers import Markers
from ..formats.motions import PoseMotion, even_times, resample, step_of

Y_UP = np.array([1.0, -1.0, -1.0])  # from x right, y down, z forward


def markers_of(motion: PoseMotion) -> Markers:
    """Joints as markers, at even times, in axes x right, y up, z towards the camera.

    They are measured from the camera where `root_camera` is known. Without it the root stays at x = z = 0, and the
    lowest joint of the film touches the ground y = 0.

    Raises:
        ValueError: No joint is known in any frame.
    """
    if motion.missing.all():
        raise ValueError(f"person {motion.person}: no joint has a position in any frame.")
    times_s = even_times(motion.times_s)
    places = motion.joints if motion.joints_camera is None else motion.joints_camera
    positions = resample(places, motion.times_s, times_s) * Y_UP
    if motion.root_camera is None:
        positions[..., 1] -= np.nanmin(positions[..., 1])
    names = tuple("_".join(name.split()) for name in motion.skeleton.joints)
    return Markers(names, 1 / step_of(times_s), float(times_s[0]), positions)


def describe(markers: Markers) -> str:
    """What the reader of a file should know: how long and how fast, and which markers are missing at times."""
    frames = len(markers.positions)
    words = f"{frames} frames at {markers.rate_hz:.4g} Hz"
    missing = np.isnan(markers.positions).any(-1).sum(0)
    counts = [f"{name} in {count}" for name, count in zip(markers.names, missing, strict=True) if count]
    return f"{words}; missing: {', '.join(counts)}" if counts else words
