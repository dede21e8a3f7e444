"""Poses to look at: the viewer's data, and a web page that shows them without a network.

Shape vocabulary: frames, joints. Positions are millimetres in camera axes (x right, y down, z forward).
"""

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ..formats.motions import PoseMotion
from ..formats.skeletons import joint_sides, named_pairs
from ..skeleton_jointdetr import HUMAN36M, Skeleton

DATA_SCRIPT = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
UNKNOWN = (np.nan, np.nan, np.nan)


def viewer_bundle() -> Path:
    """File of the viewer: an ES module that exports `mount(element, data, options)`."""
    return Path(str(files("jointdetr") / "visualization" / "viewer" / "viewer.bundle.js"))


def viewer_data(motions: Sequence[PoseMotion]) -> dict[str, Any]:
    """What the viewer shows, ready for JSON: who is there on one time line, null where somebody or a joint is missing.

    Raises:
        ValueError: The people have different skeletons.
    """
    skeleton = motions[0].skeleton if motions else HUMAN36M
    if others := [motion.skeleton.name for motion in motions if motion.skeleton != skeleton]:
        raise ValueError(f"all people must have the same skeleton, got {skeleton.name!r} and {others[0]!r}")
    times = np.unique(np.concatenate([motion.times_s for motion in motions] or [np.zeros(1)]))
    return {
        "skeleton": skeleton_data(skeleton),
        "people": [_person(motion, times) for motion in motions],
        "times": np.round(times - times[0], 4).tolist(),
    }


def skeleton_data(skeleton: Skeleton) -> dict[str, Any]:
    """What the viewer needs to know of a skeleton."""
    sides = joint_sides(skeleton)
    return {"joints": skeleton.joints, "parents": skeleton.parents, "root": skeleton.root, "sides": sides}


def _person(motion: PoseMotion, times: np.ndarray) -> dict[str, Any]:
    """One person on the common time line."""
    place = np.searchsorted(times, motion.times_s)

    def spread(values: np.ndarray, unknown: float) -> np.ndarray:
        everywhere = np.full((len(times), *values.shape[1:]), unknown, dtype=values.dtype)
        everywhere[place] = values
        return everywhere

    root = motion.root_camera
    return {
        "id": motion.person + 1,
        "joints": [positions(frame) for frame in spread(motion.joints, np.nan)],
        "detected": spread(motion.detected, False).tolist(),
        "root": None if root is None else positions(spread(root, np.nan)),
    }


def positions(points: np.ndarray, digits: int = 1) -> list[list[float] | None]:
    """Points `(points, axes)` as lists, rounded; None for one that is not known."""
    known = np.isfinite(points).all(-1)
    rounded = points.round(digits).tolist()
    return [point if is_known else None for point, is_known in zip(rounded, known, strict=True)]


def write_viewer_html(motions: Sequence[PoseMotion], path: str | Path, title: str = "3D poses") -> None:
    """Write a web page with the viewer and the poses in it: one file that needs no network.

    Raises:
        ValueError: The people have different skeletons.
    """
    bundle = viewer_bundle()
    page = Template(bundle.with_name("page.html").read_text(encoding="ascii"))
    script = bundle.read_text(encoding="ascii")
    filled = page.substitute(title=escape(title), data=_embedded(viewer_data(motions)), bundle=_embedded(script))
    Path(path).write_text(filled, encoding="utf-8")


def _embedded(value: Any) -> str:
    """JSON for a `script` element: `</script` or `<!--` would end it too early or never, so `<` goes by its number."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def read_viewer_html(path: str | Path) -> list[PoseMotion]:
    """Read the people back from a web page that [`write_viewer_html`] wrote; ValueError for any other."""
    found = DATA_SCRIPT.search(Path(path).read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise ValueError(f"{path}: expected a web page with poses in it, as this package writes them")
    try:
        data = json.loads(found[1])
        names, parents = tuple(data["skeleton"]["joints"]), tuple(data["skeleton"]["parents"])
        skeleton = Skeleton("file", names, parents, named_pairs(names), root=data["skeleton"]["root"])
        return [_read_person(person, skeleton, np.array(data["times"])) for person in data["people"]]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: the poses in this page are damaged: {error}") from error


def _read_person(person: dict[str, Any], skeleton: Skeleton, times: np.ndarray) -> PoseMotion:
    """One person of the page, in the frames that show some of them."""
    joints = np.array([[joint or UNKNOWN for joint in frame] for frame in person["joints"]], dtype=np.float64)
    seen = np.isfinite(joints).any((1, 2))
    root = None if person["root"] is None else np.array([place or UNKNOWN for place in person["root"]])[seen]
    joints = joints[seen].reshape(-1, len(skeleton.joints), 3)
    detected = np.array(person["detected"], dtype=bool)[seen]
    return PoseMotion(skeleton, times[seen], joints, detected, root_camera=root, person=person["id"] - 1)
