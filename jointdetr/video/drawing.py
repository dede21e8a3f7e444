"""Films with skeletons drawn over them.

Shape vocabulary: people, joints. `rows` are those of `jointdetr.motion.motion_schema`, ordered by frame.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..formats.film import Frame, FrameReader, require_av
from ..skeleton_jointdetr import Skeleton
from ..visualization import draw_overlay

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

TIME_BASE = Fraction(1, 90_000)  # of MPEG; every usual rate fits
QUALITY = "18"  # x264's constant rate factor: hardly to be told from the original


@dataclass
class FilmWriter:
    """Writes pictures as an H.264 film (MP4), each shown at its own time; a context manager.

    Pictures have the size of the first one; a last column or row that makes it odd is cut off.

    Args:
        path: File to write.
        frame_rate: Frames a second, about; the times count.
    """

    path: str | Path
    frame_rate: float = 25.0
    _container: "OutputContainer" = field(init=False, repr=False)
    _stream: "VideoStream | None" = field(init=False, default=None, repr=False)

    def __enter__(self) -> "FilmWriter":
        self.av = require_av()
        self._container = self.av.open(str(self.path), "w", format="mp4")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._container:
            if self._stream is not None:
                self._container.mux(self._stream.encode())

    def write(self, image: Image.Image, time_s: float) -> None:
        """Add a picture that is shown from `time_s` on."""
        stream = self._stream or self._start(image.size)
        picture = image.crop((0, 0, stream.width, stream.height))
        frame = self.av.VideoFrame.from_image(picture)
        frame.pts, frame.time_base = round(time_s / TIME_BASE), TIME_BASE
        self._container.mux(stream.encode(frame))

    def _start(self, size: tuple[int, int]) -> "VideoStream":
        rate = Fraction(self.frame_rate).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": QUALITY, "preset": "veryfast"})
        self._stream.width, self._stream.height = (max(length - length % 2, 2) for length in size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        return self._stream


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
