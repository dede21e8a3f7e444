"""Charts: skeletons with their joints' numbers and names, and joint angles through time.

`python -m jointdetr.visualization.charts docs/images/skeletons` draws the skeletons of the package.

Shape vocabulary: frames, joints. Left is blue, right orange, the middle grey. Places in a skeleton's chart are in body
heights of a person who faces the viewer, x to the viewer's right, y up; the left is at the right.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..data.skeleton_mapping import JointSource, body_points, joint_sources
from ..formats.skeletons import bones, joint_sides
from ..motion.angles import MIDDLE_ANGLES, SIDE_ANGLES, JointAngles
from ..skeleton_jointdetr import SKELETONS, Skeleton
from .figures import COLORS

# Where points of the body are drawn; those of a side on the person's left.
MIDDLE = {
    "pelvis": (0.0, 0.0),
    "root": (0.0, 0.09),
    "spine1": (0.0, 0.12),
    "lower_back": (0.0, 0.18),
    "spine": (0.0, 0.25),
    "upper_back": (0.0, 0.29),
    "spine3": (0.0, 0.37),
    "thorax": (0.0, 0.40),
    "neck": (0.0, 0.49),
    "lower_neck": (0.0, 0.52),
    "skull_base": (0.0, 0.59),
    "face": (0.0, 0.63),
    "nose": (0.0, 0.65),
    "head": (0.0, 0.69),
    "head_top": (0.0, 0.79),
}
SIDE = {
    "eye": (0.05, 0.71),
    "ear": (0.11, 0.68),
    "collar": (0.08, 0.46),
    "shoulder": (0.18, 0.46),
    "elbow": (0.35, 0.32),
    "wrist": (0.50, 0.18),
    "hand": (0.57, 0.12),
    "thumb": (0.55, 0.03),
    "fingers": (0.63, 0.06),
    "fingertips": (0.69, 0.00),
    "hip": (0.12, -0.02),
    "knee": (0.15, -0.42),
    "ankle": (0.17, -0.80),
    "heel": (0.16, -0.87),
    "foot": (0.23, -0.87),
    "toes": (0.30, -0.90),
}
BESIDE_PARENT = (0.05, -0.07)  # where a joint that stands for no known point is drawn
JOINT_SIZE, FONT_SIZE, NAMES_X = 150, 6.5, 0.85
ANGLE_COLUMNS = 4
PANEL_INCHES = (3.0, 1.9)
BAND_ALPHA = 0.2
LEAST_SPAN_DEGREES = 20.0  # of a panel, so that noise does not look like movement


def skeleton_figure(skeleton: Skeleton) -> Figure:
    """Draw a skeleton: joints by their index, names beside them, the root ringed."""
    figure = Figure(figsize=(5.6, 4.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places, sides = joint_places(skeleton), joint_sides(skeleton)
    _draw_bones(axes, skeleton, places)
    for joint, (x, y) in enumerate(places):
        edge = "black" if joint == skeleton.root else "white"
        axes.scatter(x, y, s=JOINT_SIZE, c=COLORS[sides[joint]], edgecolors=edge, linewidths=1.5, zorder=2)
        axes.text(x, y, str(joint), ha="center", va="center", color="white", fontsize=FONT_SIZE, zorder=3)
    _write_names(axes, skeleton, sides)
    _clear(axes, f"{skeleton.name}: {len(skeleton.joints)} joints", right=NAMES_X + 0.8)
    return figure


def mapping_figure(target: Skeleton, sources: Sequence[Skeleton]) -> Figure:
    """Draw what each source gives of a target: full joints are taken as they are, hollow ones by a formula."""
    rows = -(-len(sources) // 4)
    figure = Figure(figsize=(9.0, 2.9 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    places, sides = joint_places(target), joint_sides(target)
    for axes, source in zip(figure.subplots(rows, 4, squeeze=False).flat, sources, strict=False):
        _draw_bones(axes, target, places)
        for place, side, found in zip(places, sides, joint_sources(source, target), strict=True):
            _draw_source(axes, place, COLORS[side], found)
        _clear(axes, f"from {source.name}", right=0.75)
    for axes in figure.axes[len(sources) :]:
        axes.set_axis_off()
    return figure


def joint_places(skeleton: Skeleton) -> list[tuple[float, float]]:
    """Where each joint is drawn: at its point of the body, or beside its parent."""
    places: dict[int, tuple[float, float]] = {}
    points = body_points(skeleton)
    order = sorted(range(len(points)), key=lambda joint: len(_ancestors(skeleton, joint)))
    for joint in order:
        known = _known_place(points[joint])
        if known is None:
            x, y = places.get(skeleton.parents[joint], (0.0, 0.0))
            known = (x + BESIDE_PARENT[0] * (1 if x >= 0 else -1), y + BESIDE_PARENT[1])
        places[joint] = known
    return [places[joint] for joint in range(len(points))]


def _known_place(point: str) -> tuple[float, float] | None:
    """Place of a well-known point of the body."""
    side, _, part = point.partition("_")
    if side in ("left", "right") and part in SIDE:
        x, y = SIDE[part]
        return (x, y) if side == "left" else (-x, y)
    return MIDDLE.get(point)


def _ancestors(skeleton: Skeleton, joint: int) -> list[int]:
    """Parents up to the root."""
    found = []
    while skeleton.parents[joint] >= 0:
        joint = skeleton.parents[joint]
        found.append(joint)
    return found


def _draw_bones(axes: Axes, skeleton: Skeleton, places: list[tuple[float, float]]) -> None:
    """Draw lines between joints and their parents."""
    sides = joint_sides(skeleton)
    for parent, child in bones(skeleton):
        (x1, y1), (x2, y2) = places[parent], places[child]
        axes.plot([x1, x2], [y1, y2], color=COLORS[sides[child]], linewidth=2, alpha=0.5, zorder=1)


def _draw_source(axes: Axes, place: tuple[float, float], color: str, found: JointSource | None) -> None:
    """Draw a joint of a target by what it comes from."""
    if found is None:
        axes.scatter(*place, s=40, c="black", marker="x", linewidths=1.5, zorder=3)
        return
    axes.scatter(*place, s=45, c=color if not found.notes else "white", edgecolors=color, linewidths=1.5, zorder=2)


def _write_names(axes: Axes, skeleton: Skeleton, sides: list[str]) -> None:
    """List the names at the right."""
    step = min(0.1, 1.75 / len(skeleton.joints))
    for joint, name in enumerate(skeleton.joints):
        y = 0.8 - step * joint
        axes.text(NAMES_X, y, f"{joint}", ha="right", va="center", fontsize=FONT_SIZE, color=COLORS[sides[joint]])
        axes.text(NAMES_X + 0.03, y, name, va="center", fontsize=FONT_SIZE, color=COLORS[sides[joint]])


def _clear(axes: Axes, title: str, right: float) -> None:
    """Leave nothing but the person and a title."""
    axes.set(xlim=(-0.75, right), ylim=(-1.0, 0.87), aspect="equal")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def angle_figure(angles: JointAngles) -> Figure:
    """Draw one person's angles in degrees over the film's seconds, with a band of one standard deviation.

    Returns:
        A figure with a panel for each angle, left and right of a limb in one; `savefig` writes it.
    """
    panels = [*SIDE_ANGLES, *MIDDLE_ANGLES]
    rows = -(-len(panels) // ANGLE_COLUMNS)
    figure = Figure(figsize=(PANEL_INCHES[0] * ANGLE_COLUMNS, PANEL_INCHES[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, ANGLE_COLUMNS, sharex=True)
    for panel, name in zip(axes.flat, panels, strict=True):
        sides = ("left", "right") if name in SIDE_ANGLES else ("middle",)
        for side in sides:
            _draw_angle(panel, angles, name if side == "middle" else f"{side}_{name}", COLORS[side])
        _finish_panel(panel, name.replace("_", " "))
    for panel in axes[-1]:
        panel.set_xlabel("seconds")
    figure.legend(axes[0, 0].get_lines(), ["left", "right"], loc="outside upper right", ncols=2, frameon=False)
    figure.suptitle(f"Joint angles of person {angles.person + 1}, degrees", x=0.01, ha="left")
    return figure


def _draw_angle(panel: Axes, angles: JointAngles, name: str, color: str) -> None:
    """A line, broken where nothing is known and where an angle goes round, and its band."""
    degrees = _broken_at_turns(angles[name])
    deviation = angles.uncertainty[:, angles.names.index(name)]
    panel.plot(angles.times_s, degrees, color=color, linewidth=1.2, marker="." if len(degrees) == 1 else None)
    low, high = degrees - deviation, degrees + deviation
    panel.fill_between(angles.times_s, low, high, color=color, alpha=BAND_ALPHA, linewidth=0)


def _broken_at_turns(degrees: np.ndarray) -> np.ndarray:
    """Angles with a gap after each frame from which they go round from 180 to -180."""
    jumps = np.flatnonzero(np.abs(np.diff(degrees)) > 180)
    broken = degrees.copy()
    broken[jumps] = np.nan
    return broken


def _finish_panel(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize="medium", loc="left")
    panel.grid(color="#dde1e6", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    low, high = panel.get_ylim()
    room = (LEAST_SPAN_DEGREES - (high - low)) / 2
    if room > 0:
        panel.set_ylim(low - room, high + room)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the skeletons of the package, and what each gives of Human3.6M's."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, skeleton in SKELETONS.items():
        skeleton_figure(skeleton).savefig(folder / f"{name}.png")
    target = SKELETONS["human36m"]
    sources = [skeleton for skeleton in SKELETONS.values() if skeleton is not target]
    mapping_figure(target, sources).savefig(folder / "to_human36m.png")


if __name__ == "__main__":
    main()
