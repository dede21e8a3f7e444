"""Estimating the 3D poses in films and before a webcam: a table of poses, and what is made from it."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .options import one_line_errors
from .predict import PredictOptions, write_formats

if TYPE_CHECKING:
    from ..formats.film import Frame
    from ..motion.prediction import VideoSettings


def predict_video(source: str | int, options: PredictOptions, name: str) -> None:
    """Write the poses of everyone in a film, or before the webcam of this number until Ctrl-C is pressed.

    `name`.poses.parquet is written in any case. Where the command was stopped or killed, the same command goes on.
    """
    subject = f"webcam {source}" if isinstance(source, int) else source
    with one_line_errors(subject):
        options.output.mkdir(parents=True, exist_ok=True)
        film = _Film(source, options, name)
        film.estimate()
        film.finish()


class _Film:
    """A film, or what the webcam of a number sees, on its way through `predict`; files are called by `name`."""

    def __init__(self, source: str | int, options: PredictOptions, name: str):
        from ..formats.film import FrameReader, open_webcam
        from ..motion.prediction import VideoPredictor
        from ..motion.recording import PoseRecording

        self.source, self.options, self.name = source, options, name
        self.is_live = isinstance(source, int)
        self.reader = open_webcam(source) if self.is_live else FrameReader(source, options.step)
        settings = self._settings(next(iter(self.reader)))
        estimator = options.load_estimator()
        self.skeleton = estimator.model.config.skeleton
        self.predictor = VideoPredictor(estimator, settings)
        self.recording = PoseRecording(self._path("parquet"), self.skeleton, self._describe(settings))
        self.frames_done, self.seconds_spent = 0, 0.0
        self.people: set[int] = set()
        self.error_sum_mm, self.errors_known = 0.0, 0

    def _path(self, suffix: str) -> Path:
        return self.options.output / f"{self.name}.poses.{suffix}"

    def _settings(self, first: "Frame") -> "VideoSettings":
        """What the options mean for a film that begins with this frame."""
        from ..motion.prediction import VideoSettings
        from ..motion.smoothing import SmoothingSettings
        from ..motion.tracking import TrackingSettings

        return VideoSettings(
            boxes=self.options.boxes,
            has_detector=self.options.detector is not None,
            tracking=TrackingSettings(follow=self.options.follow),
            smoothing=SmoothingSettings(self.options.smoothing),
            threshold=self.options.threshold,
            step=1 if self.is_live else self.options.step,
            camera=self.options.camera_of(first.image.size),
        )

    def _describe(self, settings: "VideoSettings") -> dict[str, Any]:
        """Where the numbers come from; rows of two runs belong together only if this is the same for both."""
        path = Path(str(self.source))
        return self.options.describe() | {
            "film": path.name,
            "film_bytes": path.stat().st_size if path.is_file() else None,
            "step": settings.step,
            "follow": settings.tracking.follow,
            "boxes": settings.boxes,
            "detector": self.options.detector,
            "detector_threshold": self.options.detector_threshold,
            "people": self.options.people,
            "camera": settings.camera.describe(),
        }

    def estimate(self) -> None:
        """Go through the frames, or through those that an earlier run has left."""
        from ..motion.recording import record_poses

        done = self.recording.progress
        if done.next_frame:
            typer.echo(f"{self.source}: going on at frame {done.next_frame}", err=True)
        started = time.monotonic()
        try:
            with self._progress(done.next_frame) as advance:
                for results in record_poses(self._frames, self.predictor, self.recording):
                    self.frames_done += len(results)
                    advance(len(results))
        except KeyboardInterrupt:
            if not self.is_live:
                next_frame = self.recording.progress.next_frame
                typer.echo(f"{self.source}: stopped; the same command goes on at frame {next_frame}", err=True)
                raise
        self.seconds_spent = time.monotonic() - started

    def _frames(self, start: int) -> Iterable["Frame"]:
        """The frames from an index on; those of a webcam are kept as a film if they are to be drawn on later."""
        from ..formats.film import FilmWriter, newest_frames

        if not self.is_live:
            self.reader.start = start
            yield from self.reader
        elif not self.options.overlay:
            yield from newest_frames(self.reader)
        else:
            with FilmWriter(self._kept_film()) as film:
                for frame in newest_frames(self.reader):
                    film.write(frame.image, frame.time_s)
                    yield frame

    def _kept_film(self) -> Path:
        return self.options.output / f"{self.name}.mp4"

    @contextmanager
    def _progress(self, start: int) -> Iterator[Any]:
        """Show how far the film is, on a terminal."""
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress

        total = None if self.is_live else self.reader.info().num_frames  # if the film has an end and tells
        console = Console(stderr=True)
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(str(self.source), total=total, completed=start)
            yield lambda frames: progress.advance(task, frames * self.reader.step)

    def finish(self) -> None:
        """Smooth the rows, write the table and all that is made of it, and report."""
        from ..formats.motions import load_motions, motion_rows
        from ..motion.smoothing import smooth_rows

        smoothing, about = self.predictor.settings.smoothing, self.recording.settings
        rows = smooth_rows(self._count_people(self.recording.rows()), self.skeleton, smoothing)
        table = self._path("parquet")
        self.recording.write_table(rows, about | {"smoothing": vars(smoothing)})
        written = [table.name]
        if self.options.format:
            poses = motion_rows(load_motions(table))
            written += write_formats(poses, table.with_suffix(""), self.options, self.skeleton, about)
        if self.options.overlay:
            written.append(self._write_overlay())
        self.recording.remove_parts()
        self._report()
        typer.echo(f"see {', '.join(written)} in {self.options.output}")

    def _count_people(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Hand rows on, and note whose they are and how far off they are expected to be."""
        from ..people.words import expected_error_mm

        for row in rows:
            self.people.add(row["person"])
            error_mm = expected_error_mm(row)
            if math.isfinite(error_mm):
                self.error_sum_mm += error_mm
                self.errors_known += 1
            yield row

    def _write_overlay(self) -> str:
        """Draw the people over the film, and return the name of the file."""
        from ..formats.film import FrameReader
        from ..motion.recording import read_rows
        from ..visualization.figures import write_overlay

        film = FrameReader(self._kept_film() if self.is_live else self.source, self.predictor.settings.step)
        write_overlay(film, read_rows(self._path("parquet")), self.skeleton, self._path("mp4"))
        return self._path("mp4").name

    def _report(self) -> None:
        """Say what was found, and how fast."""
        from ..people.words import NOBODY, count_people, describe_error, doubt_of_error

        error_mm = self.error_sum_mm / self.errors_known if self.errors_known else math.nan
        people = ", ".join(filter(None, (count_people(len(self.people)), describe_error(error_mm))))
        broken = f", {self.reader.broken} broken frames left out" if self.reader.broken else ""
        rate = self.frames_done / self.seconds_spent if self.frames_done else 0.0
        frames = "1 frame" if self.frames_done == 1 else f"{self.frames_done} frames"
        typer.echo(f"{self.source}: {frames}, {people if self.people else NOBODY}, {rate:.1f} frames/s{broken}")
        if doubt := doubt_of_error(error_mm, "give a box of the first frame"):
            typer.echo(f"{self.source}: {doubt}", err=True)
