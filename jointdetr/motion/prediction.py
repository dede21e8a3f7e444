"""A film in, the poses of its people out, a few frames at a time.

Now and then people are looked for in the whole picture, as in any other; in between they are where `tracking` says.

Shape vocabulary: people, joints.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..formats.film import Frame, FrameReader
from ..formats.motions import PoseMotion, motions_from_rows
from ..people_jointdetr import visible_boxes
from .smoothing import SmoothingSettings, smooth_motion
from .tracking import Tracker, TrackingSettings

if TYPE_CHECKING:
    from PIL import Image

    from ..camera_jointdetr import Camera

POSE = dict.fromkeys(("joints", "joints_2d", "scores", "joints_camera", "sigmas"), np.float64) | {"detected": np.bool_}
Person = Mapping[str, Any]
OnProgress = Callable[[int, int | None], None]


class Estimator(Protocol):
    """The pipeline "pose-estimation-3d", or what is called in the same way."""

    def __call__(self, images: Sequence["Image.Image"], **arguments: Any) -> list[list[Person]]:
        """Estimate the poses at the `boxes` of each picture."""

    def find_people(self, image: "Image.Image") -> Sequence[Sequence[float]] | None:
        """Find the people in a picture: boxes `(people, 4)`; None for one person who fills it."""


@dataclass(frozen=True)
class VideoSettings:
    """How a film is gone through.

    Args:
        boxes: Box of each person in the first frame, x, y, width, height in px; without boxes the estimator finds
            the people.
        has_detector: Whether the estimator has a detector, which goes on being asked when people are known, and
            without which nobody is believed in for long.
        detect_every_s: How often people are looked for; without a detector only while nobody is known.
        tracking: How people are followed.
        smoothing: What is done to the motion afterwards.
        threshold: Joints with a smaller score are guesses.
        batch_size: Frames that go through the network at once. More are faster on a GPU, but the boxes of all of them
            come from the frames before.
        step: Looks at every `step`-th frame.
        camera: What is known of the camera, for the joints' place in front of it.
    """

    boxes: Sequence[Sequence[float]] = ()
    has_detector: bool = False
    detect_every_s: float = 0.5
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    smoothing: SmoothingSettings = field(default_factory=SmoothingSettings)
    threshold: float = 0.5
    batch_size: int = 1
    step: int = 1
    camera: "Camera | None" = None

    def __post_init__(self) -> None:
        if not self.detect_every_s > 0:
            raise ValueError(f"`detect_every_s` must be positive, got {self.detect_every_s}")
        for name in ("batch_size", "step"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {getattr(self, name)}")
        if len(self.boxes) and self.has_detector:
            raise ValueError("`boxes` or `has_detector` must be given, got both")


class FrameResult(NamedTuple):
    """The people in one frame."""

    frame: Frame
    people: list[dict[str, Any]]  # rows of `motion_schema`, in the order of the people's numbers


@dataclass
class VideoPredictor:
    """Estimates the poses in the frames of one film, in their order."""

    estimator: Estimator
    settings: VideoSettings
    tracker: Tracker | None = None  # the people known at the first frame to come; None: the film begins

    def predict(self, frames: Iterable[Frame]) -> Iterator[list[FrameResult]]:
        """Yield the results of batches of frames; between two of them `tracker` is all that the next ones need."""
        frames = iter(frames)
        while batch := list(islice(frames, self.settings.batch_size)):
            yield self.predict_batch(batch)

    def predict_batch(self, batch: Sequence[Frame]) -> list[FrameResult]:
        """Estimate the poses in frames that follow each other."""
        tracker = self._find_people(batch[0])
        people = [track.person for track in tracker.tracks]
        boxes = [visible_boxes(tracker.boxes(frame.time_s), frame.image.size) for frame in batch]
        images = [frame.image for frame in batch]
        known = {} if self.settings.camera is None else {"camera": self.settings.camera}
        known |= {"boxes": boxes, "threshold": self.settings.threshold, "batch_size": len(batch)}
        estimated = self.estimator(images, **known) if people else [[]] * len(batch)
        results = []
        for frame, of_frame, at in zip(batch, estimated, boxes, strict=True):
            poses = [_as_arrays(pose) for pose in of_frame]
            there = tracker.see(poses, at, frame.time_s, frame.image.size)
            rows = [
                {"frame": frame.index, "time_s": frame.time_s, "person": person, "box": np.array(box), **pose}
                for person, box, pose, seen in zip(people, at, poses, there, strict=True)
                if seen
            ]
            results.append(FrameResult(frame, rows))
        tracker.give_up(batch[-1].time_s, batch[-1].image.size, self.settings.has_detector)
        return results

    def _find_people(self, frame: Frame) -> Tracker:
        """Bring the known people up to date before a batch that begins with this frame."""
        settings = self.settings
        if self.tracker is None:
            self.tracker = Tracker(settings.tracking)
            self.tracker.start(settings.boxes, frame.time_s)
        tracker = self.tracker
        is_due = tracker.found_s is None or frame.time_s - tracker.found_s >= settings.detect_every_s
        if is_due and not len(settings.boxes) and (settings.has_detector or not tracker.tracks):
            boxes = self.estimator.find_people(frame.image)
            tracker.find([[0.0, 0.0, *map(float, frame.image.size)]] if boxes is None else boxes, frame.time_s)
        return tracker


def _as_arrays(pose: Person) -> dict[str, np.ndarray]:
    """What the network says of a person; positions that are not known become NaN."""
    return {name: np.asarray(pose[name], kind) for name, kind in POSE.items() if name in pose}


def predict_motion(
    source: str | Path | Iterable[Frame], estimator: Estimator, settings: VideoSettings | None = None
) -> Iterator[FrameResult]:
    """Yield the people in each frame of a film, as they are found, unsmoothed; constant memory.

    `source` is a film, or frames that follow each other; `estimator` is the pipeline "pose-estimation-3d".

    Raises:
        ValueError: The source is no film, or what the pipeline refuses.
    """
    settings = settings or VideoSettings()
    frames = FrameReader(source, settings.step) if isinstance(source, str | Path) else source
    for batch in VideoPredictor(estimator, settings).predict(frames):
        yield from batch


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
    """Estimate and smooth the motions of the people in a film, one each, in the order of their numbers.

    `estimator` is the pipeline "pose-estimation-3d". `progress` is called after each frame with the number of frames
    done and of all, None if the film does not tell.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no film, or what the pipeline refuses.
    """
    settings, limits = settings or VideoSettings(), limits or FilmLimits()
    stop = None if limits.max_frames is None else limits.max_frames * settings.step
    reader = FrameReader(path, settings.step, stop=stop)
    info = reader.info()
    counts = [count for count in (info.num_frames, stop) if count is not None]
    if limits.max_seconds is not None and counts:
        counts.append(round(limits.max_seconds * info.frame_rate))
    total = max(-(-min(counts) // settings.step), 1) if counts else None
    frames = iter(reader)
    if limits.max_seconds is not None:
        frames = takewhile(lambda frame: frame.time_s < limits.max_seconds, frames)
    rows = []
    for done, result in enumerate(predict_motion(frames, estimator, settings), start=1):
        rows += result.people
        if progress is not None:
            progress(done, total)
    motions = motions_from_rows(rows, estimator.model.config.skeleton)
    return [smooth_motion(motion, settings.smoothing) for motion in motions]
