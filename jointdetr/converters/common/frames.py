"""Frames of a film matched with labels that lie in another file, one for each frame."""

from collections.abc import Iterator
from pathlib import Path

from ...formats.film import Frame, FrameReader
from ..conversion import Skipped

LARGEST_SURPLUS = 0.1


def labelled_frames(film: Path, num_labels: int, step: int) -> Iterator[Frame | Skipped]:
    """Yield every `step`-th frame of a film that has a label, and at the end one `Skipped` for labels without a frame.

    Args:
        film: the film; its frames and their labels count from 0.
        num_labels: number of labels.
        step: take every `step`-th.

    Raises:
        ValueError: The film is missing, is none, or has so many frames more than labels that they do not belong to
            one another.
    """
    if not film.is_file():
        raise ValueError(f"the film {film} is missing")
    reader = FrameReader(film, step, stop=num_labels)
    num_frames = reader.info().num_frames
    if num_frames is not None and num_frames > (1 + LARGEST_SURPLUS) * num_labels + step:
        raise ValueError(f"the film {film} has {num_frames} frames and {num_labels} labels; another frame rate?")
    read, last = 0, -1
    for frame in reader:
        yield frame
        read, last = read + 1, frame.index
    missing = len(range(0, num_labels, step)) - read
    if missing:
        yield Skipped(
            "the film ends before its labels, or has broken frames",
            f"{film} gave {read} frames of {read + missing}, the last was number {last}",
            count=missing,
        )
