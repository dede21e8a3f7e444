"""Charts: skeletons with their joints' numbers and names, and joint angles through time.

Left is blue, right orange, the middle grey. Places in a skeleton's chart are in body heights of a person who faces the
viewer, x to the viewer's right, y up; the left is at the right.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..data.skeleton_mapping import body_points
from ..formats.skeletons import bones, joint_sides
from ..motion.angles import MIDDLE_ANGLES, SIDE_ANGLES, JointAngles
from ..skeleton_jointdetr import Skeleton
from .figures import COLORS

# Where points of the body are drawn; those of a side on the person's left, those of the middle by their height.
# fmt: off
SIDE = {
    "eye": (0.05, 0.71), "ear": (0.11, 0.68), "collar": (0.08, 0.46), "shoulder": (0.18, 0.46),
    "elbow": (0.35, 0.32), "wrist": (0.50, 0.18), "hand": (0.57, 0.12),
    "thumb": (0.55, 0.03), "fingers": (0.63, 0.06), "fingertips": (0.69, 0.00),
    "hip": (0.12, -0.02), "knee": (0.15, -0.42), "ankle": (0.17, -0.80),
    "heel": (0.16, -0.87), "foot": (0.23, -0.87), "toes": (0.30, -0.90),
}
MIDDLE = {
    "pelvis": 0.0, "root": 0.09, "spine1": 0.12, "lower_back": 0.18, "spine": 0.25, "upper_back": 0.29,
    "spine3": 0.37, "thorax": 0.40, "neck": 0.49, "lower_neck": 0.52, "skull_base": 0.59,
    "face": 0.63, "nose": 0.65, "head": 0.69, "head_top": 0.79,
}
# fmt: on
BESIDE_PARENT = (0.05, -0.07)  # where a joint that stands for no known point is drawn
JOINT_SIZE, FONT_SIZE, NAMES_X = 150, 6.5, 0.85
ANGLE_COLUMNS = 4
PANEL_INCHES = (3.0, 1.9)
LEAST_SPAN_DEGREES = 20.0  # of a panel, so that noise does not look like movement


def skeleton_figure(skeleton: Skeleton) -> Figure:
    """Draw a skeleton: joints by their index, names beside them, the root ringed."""
    figure = Figure(figsize=(5.6, 4.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_bones(axes, skeleton, NAMES_X + 0.8, f"{skeleton.name}: {len(skeleton.joints)} joints")
    step = min(0.1, 1.75 / len(skeleton.joints))  # between two names of the list
    for joint, ((x, y), side) in enumerate(zip(joint_places(skeleton), joint_sides(skeleton), strict=True)):
        color, edge = COLORS[side], "black" if joint == skeleton.root else "white"
        axes.scatter(x, y, s=JOINT_SIZE, c=color, edgecolors=edge, linewidths=1.5, zorder=2)
        axes.text(x, y, str(joint), ha="center", va="center", color="white", fontsize=FONT_SIZE, zorder=3)
        y = 0.8 - step * joint
        axes.text(NAMES_X, y, str(joint), ha="right", va="center", fontsize=FONT_SIZE, color=color)
        axes.text(NAMES_X + 0.03, y, skeleton.joints[joint], va="center", fontsize=FONT_SIZE, color=color)
    return figure


def joint_places(skeleton: Skeleton) -> list[tuple[float, float]]:
    """Where each joint is drawn: at its point of the body, or beside its parent."""
    points = body_points(skeleton)

    def place(joint: int) -> tuple[float, float]:
        side, _, part = points[joint].partition("_")
        if points[joint] in MIDDLE:
            return 0.0, MIDDLE[points[joint]]
        if side in ("left", "right") and part in SIDE:
            x, y = SIDE[part]
            return (x, y) if side == "left" else (-x, y)
        parent = skeleton.parents[joint]
        x, y = place(parent) if parent >= 0 else (0.0, 0.0)
        return x + BESIDE_PARENT[0] * (1 if x >= 0 else -1), y + BESIDE_PARENT[1]

    return [place(joint) for joint in range(len(points))]


def draw_bones(axes: Axes, skeleton: Skeleton, right: float, title: str) -> None:
    """Draw lines between joints and their parents, and nothing else but a title; `right` is the end of the axes."""
    places, sides = joint_places(skeleton), joint_sides(skeleton)
    for parent, child in bones(skeleton):
        (x1, y1), (x2, y2) = places[parent], places[child]
        axes.plot([x1, x2], [y1, y2], color=COLORS[sides[child]], linewidth=2, alpha=0.5, zorder=1)
    axes.set(xlim=(-0.75, right), ylim=(-1.0, 0.87), aspect="equal")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def angle_figure(angles: JointAngles) -> Figure:
    """Draw one person's angles in degrees over the film's seconds, with a band of one standard deviation.

    A panel for each angle, left and right of a limb in one; the figure's `savefig` writes it.
    """
    panels = [*SIDE_ANGLES, *MIDDLE_ANGLES]
    rows = -(-len(panels) // ANGLE_COLUMNS)
    figure = Figure(figsize=(PANEL_INCHES[0] * ANGLE_COLUMNS, PANEL_INCHES[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, ANGLE_COLUMNS, sharex=True)
    for panel, name in zip(axes.flat, panels, strict=True):
        sides = ("left", "right") if name in SIDE_ANGLES else ("middle",)
        for side in sides:
            index = angles.names.index(name if side == "middle" else f"{side}_{name}")
            degrees, deviation = angles.degrees[:, index].copy(), angles.uncertainty[:, index]
            degrees[np.flatnonzero(np.abs(np.diff(degrees)) > 180)] = np.nan  # broken where it goes round
            marker = "." if len(degrees) == 1 else None
            panel.plot(angles.times_s, degrees, color=COLORS[side], linewidth=1.2, marker=marker)
            low, high = degrees - deviation, degrees + deviation
            panel.fill_between(angles.times_s, low, high, color=COLORS[side], alpha=0.2, linewidth=0)
        panel.set_title(name.replace("_", " "), fontsize="medium", loc="left")
        panel.grid(color="#dde1e6", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        low, high = panel.get_ylim()
        room = max((LEAST_SPAN_DEGREES - (high - low)) / 2, 0)
        panel.set_ylim(low - room, high + room)
    for panel in axes[-1]:
        panel.set_xlabel("seconds")
    figure.legend(axes[0, 0].get_lines(), ["left", "right"], loc="outside upper right", ncols=2, frameon=False)
    figure.suptitle(f"Joint angles of person {angles.person + 1}, degrees", x=0.01, ha="left")
    return figure
