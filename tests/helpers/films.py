"""Writes tiny films and sound files."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

MILLISECOND = Fraction(1, 1000)


@dataclass
class FilmSettings:
    """How a film is written: times in ms (25 a second if None), `rotation` as a phone notes it, pixels' aspect."""

    times_ms: Sequence[int] | None = None
    rotation: int | None = None
    pixel_aspect: Fraction | None = None
    options: dict[str, str] | None = None


def write_film(path: Path, pictures: Sequence[Image.Image], settings: FilmSettings | None = None) -> Path:
    """Write pictures as an H.264 film."""
    import av

    settings = settings or FilmSettings()
    with av.open(str(path), "w", options=settings.options or {}) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        stream.codec_context.sample_aspect_ratio = settings.pixel_aspect or Fraction(1)
        if settings.rotation is not None:
            stream.set_display_rotation(settings.rotation)
        times = settings.times_ms or range(0, 40 * len(pictures), 40)
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = time, MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """Write a tenth of a second of silence, without pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def corner_pictures(count: int, size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    """Pictures with a red top left quarter that get brighter in the middle of their lower half by 4 a frame."""
    pictures = []
    for number in range(count):
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[: size[1] // 2, : size[0] // 2] = (255, 0, 0)
        pixels[size[1] // 2 :, size[0] // 4 : -size[0] // 4] = 4 * number % 256
        pictures.append(Image.fromarray(pixels))
    return pictures
