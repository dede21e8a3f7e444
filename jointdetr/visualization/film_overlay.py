"""Skeletons drawn over films.

Shape vocabulary: people, joints. `rows` are those of `jointdetr.motion.motion_schema`, ordered by frame.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..formats.film import FilmWriter, Frame, FrameReader
from ..skeleton_jointdetr import Skeleton
from .figures import draw_overlay


def write_overlay(
    film: FrameReader, rows: Iterable[dict[str, Any]], skeleton: Skeleton, path: str | Path
) -> Iterator[Frame]:
    """Draw the people over every frame of a film and write the result as another film, without sound.

    Args:
        film: The film, its frames chosen as they were for the rows.
        rows: One for each person in each frame: `frame`, `joints_2d` `(joints, 2)` px, `detected` `(joints,)`.
        skeleton: Names and parents of the joints.
        path: File to write, MP4.

    Yields:
        Each frame as drawn, once it is written.
    """
    people_of = _people_by_frame(rows)
    with FilmWriter(path, film.info().frame_rate / film.step) as writer:
        for frame in film:
            drawn = draw_people(frame.image, people_of(frame.index), skeleton)
            writer.write(drawn, frame.time_s)
            yield frame._replace(image=drawn)


def draw_people(image: Image.Image, people: list[dict[str, Any]], skeleton: Skeleton) -> Image.Image:
    """Draw the rows of one frame over its picture."""
    if not people:
        return image
    points = np.array([person["joints_2d"] for person in people], dtype=np.float64)
    return draw_overlay(image, points, np.array([person["detected"] for person in people]), skeleton)


def _people_by_frame(rows: Iterable[dict[str, Any]]) -> Callable[[int], list[dict[str, Any]]]:
    """Return a function that gives the rows of a frame; it has to be asked for frames in their order."""
    groups = groupby(rows, key=itemgetter("frame"))
    waiting: list[tuple[int, list[dict[str, Any]]]] = []

    def people_of(index: int) -> list[dict[str, Any]]:
        while not waiting or waiting[0][0] < index:
            waiting.clear()
            group = next(groups, None)
            if group is None:
                return []
            waiting.append((group[0], list(group[1])))
        return waiting[0][1] if waiting[0][0] == index else []

    return people_of
