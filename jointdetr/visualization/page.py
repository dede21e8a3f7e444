"""Poses to look at: the viewer's data, and a web page that shows them without a network.

Shape vocabulary: frames, joints. Positions are millimetres in camera axes (x right, y down, z forward).
"""

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..formats.motions import PoseMotion
from ..formats.skeletons import joint_sides, named_pairs
from ..motion.angles import MIDDLE_ANGLES, SIDE_ANGLES, JointAngles, joint_angles
from ..skeleton_jointdetr import Skeleton

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


ANGLES_PAGE = """<style>
body {{ display: grid; grid-template-columns: minmax(0, 1fr) 424px; }}
#angles {{ height: 100vh; height: 100dvh; }}
@media (max-width: 900px) {{
  body {{ display: block; }}
  #viewer, #angles {{ height: 55vh; }}
}}
</style>
<div id="angles"></div>
<script type="application/json" id="angles-data">{data}</script>
<script type="text/plain" id="angles-script">{script}</script>
<script type="module">
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const url = "data:text/javascript;charset=utf-8," + encodeURIComponent(read("angles-script"));
const {{ mountAngles }} = await import(url);
mountAngles(document.getElementById("angles"), read("angles-data"), window.viewer);
</script>
"""
"""What comes beside the viewer, and after it as modules run in the order of the page."""


DATA_SCRIPT = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
UNKNOWN = (np.nan, np.nan, np.nan)


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


def write_viewer_html(
    motions: Sequence[PoseMotion], path: str | Path, title: str = "3D poses", angles: bool = False
) -> None:
    """Write a web page with the viewer and the poses in it: one file that needs no network.

    Args:
        motions: The people.
        path: File to write.
        title: Of the page.
        angles: Show the people's joint angles beside the skeleton.

    Raises:
        ValueError: The people have different skeletons, or one without hips or shoulders if angles are wanted.
    """
    bundle = viewer_bundle().read_text(encoding="ascii")
    page = PAGE.format(title=escape(title), data=_embedded(viewer_data(motions)), bundle=_embedded(bundle))
    if angles:
        script = viewer_bundle().with_name("angles.js").read_text(encoding="utf-8")
        beside = ANGLES_PAGE.format(data=_embedded(angles_data(motions)), script=_embedded(script))
        page = page.replace("</html>", beside + "</html>")
    Path(path).write_text(page, encoding="utf-8")


def read_viewer_html(path: str | Path) -> list[PoseMotion]:
    """Read the people back from a web page that [`write_viewer_html`] wrote.

    Raises:
        ValueError: It is no such page, or is damaged.
    """
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    found = DATA_SCRIPT.search(text)
    if found is None:
        raise ValueError(f"{path}: expected a web page with poses in it, as this package writes them")
    try:
        data = json.loads(found[1])
        names, parents = tuple(data["skeleton"]["joints"]), tuple(data["skeleton"]["parents"])
        skeleton = Skeleton("file", names, parents, named_pairs(names), root=data["skeleton"]["root"])
        return [_read_person(person, skeleton, data["times"]) for person in data["people"]]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: the poses in this page are damaged: {error}") from error


def _read_person(person: dict[str, Any], skeleton: Skeleton, times: Sequence[float]) -> PoseMotion:
    """One person of the page, in the frames that show some of them."""
    count = len(skeleton.joints)
    joints = np.array([[joint or UNKNOWN for joint in frame] for frame in person["joints"]], dtype=np.float64)
    seen = np.isfinite(joints).any((1, 2))
    root = person["root"]
    if root is not None:
        root = np.array([place or UNKNOWN for place in root], dtype=np.float64)[seen]
    return PoseMotion(
        skeleton,
        np.array(times, dtype=np.float64)[seen],
        joints[seen].reshape(-1, count, 3),
        np.array(person["detected"], dtype=bool)[seen],
        root_camera=root,
        person=person["id"] - 1,
    )


def angles_data(motions: Sequence[PoseMotion]) -> dict[str, Any]:
    """Joint angles as the page shows them, ready for JSON: everybody on the viewer's time line, null where unknown."""
    if not motions:
        return {"times": [0.0], "people": []}
    times = np.unique(np.concatenate([motion.times_s for motion in motions]))
    people = [{"id": motion.person + 1, "charts": _charts(joint_angles(motion), times)} for motion in motions]
    return {"times": np.round(times - times[0], 4).tolist(), "people": people}


def _charts(angles: JointAngles, times: np.ndarray) -> list[dict[str, Any]]:
    """A chart for each angle, left and right of a limb in one."""
    place = np.searchsorted(times, angles.times_s)
    numbers = np.full((2, len(times), len(angles.names)), np.nan)
    numbers[:, place] = angles.degrees, angles.uncertainty

    def series(side: str, name: str) -> dict[str, Any]:
        index = angles.names.index(name if side == "middle" else f"{side}_{name}")
        degrees, deviations = (
            [None if np.isnan(x) else round(x, 1) for x in row.tolist()] for row in numbers[..., index]
        )
        return {"side": side, "degrees": degrees, "deviations": deviations}

    limbs = [(name, ("left", "right")) for name in SIDE_ANGLES] + [(name, ("middle",)) for name in MIDDLE_ANGLES]
    return [
        {"title": name.replace("_", " "), "series": [series(side, name) for side in sides]} for name, sides in limbs
    ]


def _embedded(value: Any) -> str:
    """JSON for a `script` element: `</script` or `<!--` would end it too early or never, so `<` goes by its number."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


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
