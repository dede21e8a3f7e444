"""Pictures of poses: the skeleton over the photograph, and the same skeleton in 3D from two sides.

Shape vocabulary: people, joints. Positions are millimetres in camera axes (x right, y down, z forward), pixels in 2D.
Left is blue, right is orange, the middle is grey. What the model did not see is hollow and dashed: a guess.
Figures are built on their own canvas, so they leave pyplot's state alone and work without a display.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from PIL import Image

from ..formats.film import FilmWriter, FrameReader
from ..formats.skeletons import bones, joint_sides
from ..people.words import NOBODY
from ..skeleton_jointdetr import Skeleton

DASHES = (0, (1.6, 1.2))
MARGIN = 0.25  # of the people's longer side, shown of the picture around them
LEAST_MARGIN_PX = 10.0
MOST_IN_3D = 6  # people; a crowd is better turned in the viewer
COLORS = {"left": "#1f77d0", "right": "#f07f13", "middle": "#6b6b6b"}
Person = Mapping[str, Any]

# Title, label of the axis to the right, and what runs to the right, down and away, as rows in camera axes (3, 3).
VIEWS = (
    ("as the camera sees it", "x, mm", np.eye(3, dtype=np.float32)),
    # Seen from the camera's right the depth z runs to the right and x comes towards the viewer.
    ("from the side", "z, mm (away from the camera)", np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)),
)


def draw_overlay(
    image: Image.Image, joints_2d: torch.Tensor | np.ndarray, detected: torch.Tensor | np.ndarray, skeleton: Skeleton
) -> Image.Image:
    """Draw skeletons over a picture; returns a new RGB picture of the same size.

    `joints_2d` `(joints, 2)` or `(people, joints, 2)` are pixels of the picture, NaN where a joint is to be left out;
    `detected` `(joints,)` or `(people, joints)` bool is False where a joint is a guess.

    Raises:
        ValueError: The shapes do not fit the skeleton.
    """
    points = _as_people(joints_2d, skeleton, "joints_2d", 2)
    seen = _as_people(detected, skeleton, "detected").astype(bool)
    if len(points) != len(seen):
        raise ValueError(f"`joints_2d` has {len(points)} people and `detected` has {len(seen)}.")
    figure = Figure(figsize=(image.width / 100, image.height / 100), dpi=100)
    figure.patch.set_alpha(0)  # the skeletons alone, laid over the picture afterwards: ten times faster in a large one
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, image.width), ylim=(image.height, 0))
    axes.axis("off")
    for person_points, person_seen in zip(points, seen, strict=True):
        finite = person_points[np.isfinite(person_points).all(-1)]
        extent = np.ptp(finite, axis=0).max() if len(finite) else 0.0
        width = max(min(extent / 45, max(image.size) / 110), 1.5) * 72 / 100  # matplotlib counts 1/72 inch
        _draw_skeleton(axes, person_points, person_seen, skeleton, width)
    canvas.draw()
    layer = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    layer = layer if layer.size == image.size else layer.resize(image.size)
    drawn = image.convert("RGB")  # a copy in any case
    drawn.paste(layer, mask=layer.getchannel("A"))
    return drawn


def write_overlay(film: FrameReader, rows: Iterable[dict[str, Any]], skeleton: Skeleton, path: str | Path) -> None:
    """Draw the people over every frame of a film and write the result as another film, MP4, without sound.

    The frames of `film` are chosen as they were for the `rows`, of which there is one for each person in each frame,
    ordered by frame: `frame`, `joints_2d` `(joints, 2)` px, `detected` `(joints,)`.
    """
    groups = groupby(rows, key=itemgetter("frame"))
    index, people = next(groups, (math.inf, ()))
    with FilmWriter(path, film.info().frame_rate / film.step) as writer:
        for frame in film:
            while index < frame.index:
                index, people = next(groups, (math.inf, ()))
            image = frame.image
            if index == frame.index:
                points, seen = zip(*((person["joints_2d"], person["detected"]) for person in people), strict=True)
                image = draw_overlay(image, np.array(points, dtype=np.float64), np.array(seen), skeleton)
            writer.write(image, frame.time_s)


def pose_figure(image: Image.Image, people: Sequence[Person], skeleton: Skeleton) -> Figure:
    """Show a picture with its skeletons beside the first six of them in 3D, from the camera and from the side.

    `people` are what `post_process_pose_estimation` returns for it: `joints` `(joints, 3)` in millimetres relative to
    the root, `joints_2d` `(joints, 2)` in pixels and `detected` `(joints,)`. Of nobody the picture is shown alone, and
    that it is so. `figure.savefig("pose.png")` writes the figure.

    Raises:
        ValueError: A person's shapes do not fit the skeleton.
    """
    shown = min(len(people), MOST_IN_3D)
    columns = 1 if shown <= 2 else 2
    rows = max(-(-shown // columns), 1)
    views = len(VIEWS) * columns if people else 0
    figure = Figure(figsize=(4.6 + 3.4 * views, max(4.4, 3.6 * rows) + 0.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = GridSpec(rows, views + 1, figure, width_ratios=[1.45] + [1] * views)
    picture = figure.add_subplot(grid[:, 0])
    _show_picture(picture, image)
    if not people:
        picture.set_title(NOBODY)
        return figure
    _cut_to_people(picture, image, people)
    for number, person in enumerate(people):
        name = f"person {number + 1}" if len(people) > 1 else ""
        _draw_person_2d(picture, person, skeleton, name)
        if number < shown:
            row, first_column = number // columns, 1 + len(VIEWS) * (number % columns)
            panels = [figure.add_subplot(grid[row, first_column + view]) for view in range(len(VIEWS))]
            _draw_person_3d(panels, person, skeleton, name)
    lines = [Line2D([], [], color=color, marker="o", linewidth=3, label=side) for side, color in COLORS.items()]
    lines.append(Line2D([], [], color=COLORS["middle"], marker="o", linewidth=3, label="a guess"))
    lines[-1].set(markerfacecolor="white", linestyle=DASHES)
    figure.legend(handles=lines, loc="outside lower center", ncols=4, frameon=False, fontsize=11)
    return figure


def pose_sheet(
    images: Sequence[Image.Image], people: Sequence[Person], skeleton: Skeleton, titles: Sequence[str]
) -> Figure:
    """Show one person a picture, several pictures on a sheet: the skeleton over each, and beside it in 3D.

    `people` as in `pose_figure`, one for each picture, of which there is one at least; `titles` go over the pictures.
    """
    columns = min(len(images), 2)
    rows, panels = -(-len(images) // columns), 1 + len(VIEWS)
    figure = Figure(figsize=(2.6 * panels * columns, 3.0 * rows), dpi=90)
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, panels * columns, squeeze=False).reshape(rows * columns, panels)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.16 / rows, top=1 - 0.1 / rows, wspace=0.35, hspace=0.35)
    for axes in grid[len(images) :].flat:
        axes.set_axis_off()
    for (picture, *views), image, person, title in zip(grid, images, people, titles, strict=False):
        _show_picture(picture, image)
        _draw_person_2d(picture, person, skeleton, name="")
        picture.set_title(title, fontsize=12)
        _draw_person_3d(views, person, skeleton, name="")
    return figure


def as_picture(figure: Figure) -> Image.Image:
    """Render a figure of this module as an RGB picture."""
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")


def _as_people(
    values: torch.Tensor | np.ndarray, skeleton: Skeleton, name: str, *channels: int, people: int = -1
) -> np.ndarray:
    """Check an array against the skeleton and give it a leading people axis if it has none."""
    array = torch.as_tensor(values).detach().cpu().numpy()
    one = (len(skeleton.joints), *channels)
    if array.shape[-len(one) :] != one or array.ndim > len(one) + 1:
        raise ValueError(f"`{name}` must have the shape {one} or (people, *{one}), got {array.shape}.")
    return array.reshape(people, *one)


def _show_picture(axes: Axes, image: Image.Image) -> None:
    """Fill the axes with the picture in its own pixel coordinates: (0, 0) is the outer corner of the first pixel."""
    axes.imshow(image.convert("RGB"), extent=(0, image.width, image.height, 0), interpolation="lanczos")
    axes.set(xlim=(0, image.width), ylim=(image.height, 0))
    axes.axis("off")


def _cut_to_people(axes: Axes, image: Image.Image, people: Sequence[Person]) -> None:
    """Show only the part of the picture around the people, with some of what is around them."""
    points = np.concatenate([np.asarray(person["joints_2d"], np.float64).reshape(-1, 2) for person in people])
    known = points[((points >= 0) & (points <= image.size)).all(-1)]  # a guess may lie far away, NaN is nowhere
    if not len(known):
        return
    low, high = known.min(0), known.max(0)
    margin = np.maximum(MARGIN * (high - low).max(), LEAST_MARGIN_PX)
    (left, top), (right, bottom) = np.maximum(low - margin, 0), np.minimum(high + margin, image.size)
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _draw_person_2d(axes: Axes, person: Person, skeleton: Skeleton, name: str) -> None:
    points = _as_people(person["joints_2d"], skeleton, "joints_2d", 2, people=1)[0]  # (joints, 2)
    seen = _as_people(person["detected"], skeleton, "detected", people=1)[0]
    _draw_skeleton(axes, points, seen, skeleton, bone_width=2.6)
    drawn = points[np.isfinite(points).all(-1)]
    if name and len(drawn):
        top = drawn[drawn[:, 1].argmin()]
        label = axes.annotate(name, top, (0, 9), textcoords="offset points", ha="center", fontsize=10, color="white")
        label.set(path_effects=[Stroke(linewidth=2.5, foreground="black"), Normal()], clip_on=True)


def _draw_person_3d(panels: Sequence[Axes], person: Person, skeleton: Skeleton, name: str) -> None:
    """Draw one person into one panel a view, with the same millimetres on every axis."""
    joints = _as_people(person["joints"], skeleton, "joints", 3, people=1)[0]  # (joints, 3)
    seen = _as_people(person["detected"], skeleton, "detected", people=1)[0]
    finite = joints[np.isfinite(joints).all(-1)]
    low, high = (finite.min(0), finite.max(0)) if len(finite) else (np.full(3, -1.0), np.full(3, 1.0))
    center, half = (low + high) / 2, max((high - low).max() * 0.56, 100.0)
    for axes, (title, right_label, rotation) in zip(panels, VIEWS, strict=True):
        _draw_skeleton(axes, joints @ rotation.T, seen, skeleton, bone_width=3.2)
        x, y, _ = rotation @ center
        axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
        axes.set_aspect("equal")
        axes.set_title(f"{name}, {title}" if name else title, fontsize=12)
        axes.set_xlabel(right_label, fontsize=10)
        axes.locator_params(nbins=5)
        axes.tick_params(labelsize=9)
        axes.grid(color="#e3e3e3", linewidth=0.8)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("y, mm (down)", fontsize=10)


def _draw_skeleton(axes: Axes, points: np.ndarray, seen: np.ndarray, skeleton: Skeleton, bone_width: float) -> None:
    """Draw bones and joints from far to near, a white rim around each so that crossings can be read.

    `points` `(joints, 2 or 3)` run right, down and away, in any unit; `seen` `(joints,)`; `bone_width` in 1/72 inch.
    """
    depth = np.nan_to_num(points[:, 2]) if points.shape[1] == 3 else np.zeros(len(points))
    nearness = 2 + (depth.max() - depth) / (np.ptp(depth) + 1.0)  # (joints,), the zorder; 2 is above the grid
    dot_nearness = nearness.copy()
    drawable = np.isfinite(points).all(-1)
    sides = joint_sides(skeleton)
    for bone in bones(skeleton):
        ends = list(bone)
        if not drawable[ends].all():
            continue
        # A limb starts in the middle of the body and takes the side of the joint it leads to.
        line = axes.plot(*points[ends, :2].T, color=COLORS[sides[bone[1]]], linewidth=bone_width)[0]
        line.set(zorder=nearness[ends].mean(), solid_capstyle="round")
        if seen[ends].all():
            line.set_path_effects([Stroke(linewidth=bone_width * 1.7, foreground="white"), Normal()])
        else:
            line.set_linestyle(DASHES)
        dot_nearness[ends] = np.maximum(dot_nearness[ends], line.get_zorder() + 0.01)  # a dot covers all its bones
    for joint in np.flatnonzero(drawable):
        color, edge = COLORS[sides[joint]], "white"
        # a wide white rim would cut short bones off from their joints, which then look dashed
        edge_width = bone_width * (0.15 if seen[joint] else 0.45)
        if not seen[joint]:  # a guess is hollow
            color, edge = edge, color
        dot = axes.plot(*points[joint, :2], "o", markersize=bone_width * 1.9, zorder=dot_nearness[joint])[0]
        dot.set(markerfacecolor=color, markeredgecolor=edge, markeredgewidth=edge_width)
