"""Boxes that somebody typed, drew or sent, checked: x, y, width, height in px of the upright picture."""

import math
from typing import Any

from PIL import Image

Box = list[float]  # x, y, width, height in px of the upright picture
MIN_SIDE_PX = 4


def parse_boxes(value: Any, image: Image.Image, max_people: int) -> list[Box]:
    """Return boxes within the picture from `[[x, y, width, height], ...]` that a client sent; `None` for none.

    Raises:
        ValueError: They are no boxes, more than `max_people`, or do not lie in the picture.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(_is_box(box) for box in value):
        raise ValueError(f"boxes must be a list of [x, y, width, height] in pixels, got {str(value)[:100]}")
    if len(value) > max_people:
        raise ValueError(f"there may be at most {max_people} people, got {len(value)}")
    return [_within(box, image) for box in value]


def read_boxes(text: str) -> list[Box]:
    """Return the boxes of a text `x y width height; x y width height`, unchecked; commas are taken as blanks."""
    rows = [row.replace(",", " ").split() for row in text.split(";")]
    try:
        return [[float(word) for word in row] for row in rows if row]
    except ValueError as error:
        raise ValueError(f"boxes must be numbers, x y width height; x y width height, got {text[:100]!r}") from error


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(number, (int, float)) and math.isfinite(number) for number in box)
    )


def _within(box: Box, image: Image.Image) -> Box:
    """Cut a box to the picture."""
    x, y, width, height = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, image.width), min(y + height, image.height)
    if right - left < MIN_SIDE_PX or bottom - top < MIN_SIDE_PX:
        raise ValueError(f"a box must show some of the picture of {image.width} x {image.height} pixels, got {box}")
    return [left, top, right - left, bottom - top]
