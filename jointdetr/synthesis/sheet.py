"""Contact sheets: many dataset rows in one picture, joints drawn.

Shape vocabulary: `joints` of the skeleton.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw

from ..skeleton_jointdetr import SKELETONS

LEFT_COLOUR, RIGHT_COLOUR, MIDDLE_COLOUR = (0, 170, 255), (255, 150, 0), (90, 230, 90)


def contact_sheet(rows: Sequence[Mapping[str, Any]], columns: int = 8) -> Image.Image:
    """Lay pictures out in a grid and draw their joints: filled ones are visible, hollow ones are not.

    Left is blue, right is orange, the middle is green.

    Args:
        rows: dataset rows with `image` (PIL), `joints_2d`, `visible` and `skeleton`.
        columns: pictures in one row of the sheet.

    Returns:
        The sheet; its cells are as large as the largest picture.

    Raises:
        ValueError: there is no row, or `columns` is below 1.
    """
    if not rows or columns < 1:
        raise ValueError(f"a sheet needs at least one row and one column, got {len(rows)} rows and {columns} columns")
    pictures = [draw_joints(row) for row in rows]
    width, height = (max(picture.size[axis] for picture in pictures) for axis in (0, 1))
    lines = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (min(columns, len(pictures)) * width, lines * height))
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * width, index // columns * height))
    return sheet


def draw_joints(row: Mapping[str, Any]) -> Image.Image:
    """Draw the skeleton of one dataset row over its picture."""
    picture = row["image"].convert("RGB")
    draw = ImageDraw.Draw(picture)
    skeleton = SKELETONS[row["skeleton"]]
    points = [(float(x), float(y)) for x, y in row["joints_2d"]]
    colours = [_colour(name) for name in skeleton.joints]
    radius = max(1.5, picture.width / 90)
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            draw.line([points[parent], points[joint]], fill=colours[joint], width=1)
    for (x, y), colour, visible in zip(points, colours, row["visible"], strict=True):
        circle = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(circle, fill=colour if visible else None, outline=colour)
    return picture


def _colour(joint: str) -> tuple[int, int, int]:
    """Colour of a joint by its side."""
    if joint.startswith("left_"):
        return LEFT_COLOUR
    return RIGHT_COLOUR if joint.startswith("right_") else MIDDLE_COLOUR
