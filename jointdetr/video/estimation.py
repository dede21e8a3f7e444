"""A whole film at once, as motions in memory: for short films, from Python and in the demo."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from ..formats.film import FrameReader
from ..formats.motions import PoseMotion, motions_from_rows
from ..motion.motions import smooth_motion
from .prediction import Estimator, VideoPredictor, VideoSettings

OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class FilmLimits:
    """How much of a film to look at.

    Args:
        max_frames: Frames to look at, at most.
        max_seconds: Seconds of the film, at most.

    Raises:
        ValueError: A limit that leaves nothing.
    """

    max_frames: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_frames", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be positive, got {value}")


def estimate_video(
    path: str | Path,
    estimator: Estimator,
    settings: VideoSettings | None = None,
    limits: FilmLimits | None = None,
    progress: OnProgress | None = None,
) -> list[PoseMotion]:
    """Estimate and smooth the motions of the people in a film.

    Args:
        path: The film.
        estimator: The pipeline "pose-estimation-3d".
        settings: How to go through the film.
        limits: How much of it to look at; what comes later is left out.
        progress: Called after each batch with the number of frames done and of all, None if the film does not tell.

    Returns:
        One motion a person, in the order of their numbers; an empty list if nobody is there.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no film, or what the pipeline refuses.
    """
    settings, limits = settings or VideoSettings(), limits or FilmLimits()
    stop = None if limits.max_frames is None else limits.max_frames * settings.step
    reader = FrameReader(path, settings.step, stop=stop)
    total = _expected_frames(reader, limits)
    frames = iter(reader)
    if limits.max_seconds is not None:
        frames = takewhile(lambda frame: frame.time_s < limits.max_seconds, frames)
    rows, done = [], 0
    for batch in VideoPredictor(estimator, settings).predict(frames):
        rows += [row for result in batch for row in result.people]
        done += len(batch)
        if progress is not None:
            progress(done, total)
    motions = motions_from_rows(rows, estimator.model.config.skeleton)
    return [smooth_motion(motion, settings.smoothing) for motion in motions]


def _expected_frames(reader: FrameReader, limits: FilmLimits) -> int | None:
    """About how many frames there are to look at."""
    info = reader.info()
    if info.num_frames is None:
        return limits.max_frames
    counts = [-(-info.num_frames // reader.step)]
    if limits.max_frames is not None:
        counts.append(limits.max_frames)
    if limits.max_seconds is not None:
        counts.append(max(round(limits.max_seconds * info.frame_rate / reader.step), 1))
    return min(counts)
