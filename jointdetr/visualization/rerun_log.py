"""Motions for the viewer rerun (https://rerun.io), an optional extra of the package.

Shape vocabulary: frames, joints. Positions are millimetres in camera axes (x right, y down, z forward).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..formats.motions import PoseMotion
from ..formats.skeletons import bones, joint_sides
from ..skeleton_jointdetr import Skeleton
from .figures import COLORS
from .page import common_skeleton

if TYPE_CHECKING:
    from rerun import AnnotationContext, RecordingStream

SEEN_RADIUS_MM, GUESS_RADIUS_MM = 22.0, 10.0


def show_in_rerun(motions: Sequence[PoseMotion], output: str | Path | None = None) -> None:
    """Show motions in rerun's own window, or write them as a recording (.rrd) that it opens.

    Joints that were not seen are smaller, and missing ones are left out.

    Args:
        motions: The people.
        output: File to write instead of opening the window.

    Raises:
        ImportError: rerun is not installed.
        ValueError: There is nobody, or the people have different skeletons.
    """
    try:
        import rerun
    except ImportError as error:
        raise ImportError('rerun is not installed: pip install "jointdetr[view]"') from error
    skeleton = common_skeleton(motions)
    recording = rerun.RecordingStream("jointdetr")
    if output is None:
        recording.spawn()
    else:
        recording.save(output)
    recording.log("/", rerun.ViewCoordinates.RDF, static=True)  # right, down, forward
    recording.log("/", _annotations(skeleton), static=True)
    for motion in motions:
        _log_motion(recording, motion)
    recording.flush()


def _annotations(skeleton: Skeleton) -> "AnnotationContext":
    """Names and colours of the joints, and which of them bones join."""
    import rerun

    joints = [
        rerun.AnnotationInfo(id=index, label=name, color=tuple(bytes.fromhex(COLORS[side][1:])))
        for index, (name, side) in enumerate(zip(skeleton.joints, joint_sides(skeleton), strict=True))
    ]
    person = rerun.AnnotationInfo(id=0, label="person")
    return rerun.AnnotationContext(
        [rerun.ClassDescription(info=person, keypoint_annotations=joints, keypoint_connections=bones(skeleton))]
    )


def _log_motion(recording: "RecordingStream", motion: PoseMotion) -> None:
    """Log one person's joints at every frame, and nothing after the last one."""
    import rerun

    place = f"people/{motion.person + 1}"
    positions = motion.joints if motion.joints_camera is None else motion.joints_camera
    for frame, time_s in enumerate(motion.times_s):
        recording.set_time("time", duration=time_s)
        known = np.flatnonzero(np.isfinite(positions[frame]).all(-1))
        radii = np.where(motion.detected[frame, known], SEEN_RADIUS_MM, GUESS_RADIUS_MM)
        points = rerun.Points3D(positions[frame, known], keypoint_ids=known, class_ids=0, radii=radii)
        recording.log(place, points)
    if len(motion) > 1:
        recording.set_time("time", duration=2 * motion.times_s[-1] - motion.times_s[-2])
        recording.log(place, rerun.Clear(recursive=False))
