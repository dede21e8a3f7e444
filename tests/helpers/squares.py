"""A stand-in for the network that finds white squares on black, and films of such squares."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from jointdetr.formats.film import Frame
from jointdetr.skeleton_jointdetr import Skeleton

SIZE = (160, 96)
SQUARE = Skeleton("square", ("a", "b", "c", "d"), (-1, 0, 1, 2), (), 0)


def picture_of(squares: Sequence[tuple[float, float]]) -> Image.Image:
    """White squares of 20 px on black, with these top left corners."""
    image = Image.new("RGB", SIZE)
    for x, y in squares:
        ImageDraw.Draw(image).rectangle((x, y, x + 19, y + 19), fill="white")
    return image


def walk(count: int, step: float = 2.0) -> list[Frame]:
    """A square that walks to the right."""
    return [Frame(index, index / 25, picture_of([(10 + step * index, 40)])) for index in range(count)]


class SquareEstimator:
    """Takes a square in a box for a person: four joints at its corners; remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.searches = 0

    def find_people(self, image: Image.Image) -> list[list[float]]:
        """The box of a square, if there is one."""
        self.searches += 1
        (left, top), *_, (_, bottom) = person = self.person(image, [0, 0, *SIZE])["joints_2d"]
        return [] if left is None else [[left - 2, top - 2, person[1][0] - left + 4, bottom - top + 4]]

    def __call__(self, images: list[Image.Image], boxes: Any = None, **kwargs: Any) -> list[list[dict[str, Any]]]:
        self.calls.append({"images": len(images), "boxes": boxes, **kwargs})
        return [[self.person(image, box) for box in of] for image, of in zip(images, boxes, strict=True)]

    @staticmethod
    def person(image: Image.Image, box: Sequence[float]) -> dict[str, Any]:
        x, y, width, height = box
        pixels = np.argwhere(np.asarray(image.convert("L")) > 128)[:, ::-1]
        inside = pixels[((pixels >= (x - 4, y - 4)) & (pixels < (x + width + 4, y + height + 4))).all(1)]
        if not len(inside):
            nothing = [[None] * 3] * 4
            return {"joints": nothing, "joints_2d": [[None] * 2] * 4, "scores": [0.1] * 4, "detected": [False] * 4}
        (left, top), (right, bottom) = inside.min(0).tolist(), (inside.max(0) + 1).tolist()
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        joints = [[10 * (x - left), 10 * (y - top), 0] for x, y in corners]
        return {"joints": joints, "joints_2d": corners, "scores": [0.9] * 4, "detected": [True] * 4}
