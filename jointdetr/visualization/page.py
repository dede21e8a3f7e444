"""Poses to look at: the viewer's data, and a web page that shows them without a network.

Shape vocabulary: frames, joints. Positions are millimetres in camera axes (x right, y down, z forward).
"""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..motion import PoseMotion
from ..skeleton_jointdetr import Skeleton
from .skeletons import joint_sides

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
html, body {{ height: 100%; margin: 0; }}
body {{ background: #f7f8fa; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #14171c; }} }}
#viewer {{ height: 100vh; height: 100dvh; }}
</style>
<div id="viewer"></div>
<script type="application/json" id="data">{data}</script>
<script type="text/plain" id="bundle">{bundle}</script>
<script type="module">
const read = (id) => document.getElementById(id).textContent;
const viewer = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(JSON.parse(read("bundle"))));
window.viewer = viewer.mount(document.getElementById("viewer"), JSON.parse(read("data")));
</script>
</html>
"""


def viewer_bundle() -> Path:
    """File of the viewer: an ES module that exports `mount(element, data, options)`."""
    return Path(str(files("jointdetr") / "visualization" / "viewer" / "viewer.bundle.js"))


def common_skeleton(motions: Sequence[PoseMotion]) -> Skeleton:
    """The skeleton that all motions share.

    Raises:
        ValueError: There is no motion, or two have different skeletons.
    """
    if not motions:
        raise ValueError("expected at least one person, got none")
    for motion in motions:
        if motion.skeleton != motions[0].skeleton:
            names = motions[0].skeleton.name, motion.skeleton.name
            raise ValueError(f"all people must have the same skeleton, got {names[0]!r} and {names[1]!r}")
    return motions[0].skeleton


def viewer_data(motions: Sequence[PoseMotion]) -> dict[str, Any]:
    """What the viewer shows, ready for JSON: everybody on one time line, null where somebody or a joint is missing.

    Args:
        motions: The people; none gives an empty scene.

    Raises:
        ValueError: The people have different skeletons.
    """
    if not motions:
        return {"skeleton": {"joints": [], "parents": [], "root": 0, "sides": []}, "people": [], "times": [0.0]}
    skeleton = common_skeleton(motions)
    times = np.unique(np.concatenate([motion.times_s for motion in motions]))
    return {
        "skeleton": {
            "joints": list(skeleton.joints),
            "parents": list(skeleton.parents),
            "root": skeleton.root,
            "sides": joint_sides(skeleton),
        },
        "people": [_person(motion, times) for motion in motions],
        "times": np.round(times - times[0], 4).tolist(),
    }


def write_viewer_html(motions: Sequence[PoseMotion], path: str | Path, title: str = "3D poses") -> None:
    """Write a web page with the viewer and the poses in it: one file that needs no network.

    Raises:
        ValueError: The people have different skeletons.
    """
    data = json.dumps(viewer_data(motions), separators=(",", ":"), allow_nan=False)
    bundle = json.dumps(viewer_bundle().read_text(encoding="ascii"))
    # `</script` or `<!--` inside would end the element too early or never; JSON may write any letter by its number.
    data, bundle = (text.replace("<", "\\u003c") for text in (data, bundle))
    page = PAGE.format(title=escape(title), data=data, bundle=bundle)
    Path(path).write_text(page, encoding="utf-8")


def _person(motion: PoseMotion, times: np.ndarray) -> dict[str, Any]:
    """One person on the common time line."""
    place = np.searchsorted(times, motion.times_s)
    joints = np.full((len(times), *motion.joints.shape[1:]), np.nan)
    joints[place] = motion.joints
    detected = np.zeros(joints.shape[:2], dtype=bool)
    detected[place] = motion.detected
    root = None
    if motion.root_camera is not None:
        root = np.full((len(times), 3), np.nan)
        root[place] = motion.root_camera
    return {
        "id": motion.person + 1,
        "joints": _positions(joints),
        "detected": detected.tolist(),
        "root": None if root is None else _positions(root),
    }


def _positions(values: np.ndarray) -> list[Any]:
    """Nested lists of positions `(..., 3)` in tenths of a millimetre, None for one that is not known."""
    known = np.isfinite(values).all(-1)
    if values.ndim > 2:
        return [_positions(value) for value in values]
    return [row if is_known else None for row, is_known in zip(values.round(1).tolist(), known, strict=True)]
