"""Skeletons drawn over films."""

import math
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ..formats.film import FilmWriter, FrameReader
from ..skeleton_jointdetr import Skeleton
from .figures import draw_overlay


def write_overlay(film: FrameReader, rows: Iterable[dict[str, Any]], skeleton: Skeleton, path: str | Path) -> None:
    """Draw the people over every frame of a film and write the result as another film, without sound.

    Args:
        film: The film, its frames chosen as they were for the rows.
        rows: One for each person in each frame, ordered by frame: `frame`, `joints_2d` `(joints, 2)` px, `detected`
            `(joints,)`.
        skeleton: Names and parents of the joints.
        path: File to write, MP4.
    """
    groups = ((index, list(people)) for index, people in groupby(rows, key=itemgetter("frame")))
    index, people = next(groups, (math.inf, []))
    with FilmWriter(path, film.info().frame_rate / film.step) as writer:
        for frame in film:
            while index < frame.index:
                index, people = next(groups, (math.inf, []))
            image = frame.image
            if index == frame.index:
                points = np.array([person["joints_2d"] for person in people], dtype=np.float64)
                image = draw_overlay(image, points, np.array([person["detected"] for person in people]), skeleton)
            writer.write(image, frame.time_s)
