"""Estimating the 3D poses in films and before a webcam: a table of poses, and what is made from it."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .options import one_line_errors
from .predict import PredictOptions, write_formats

if TYPE_CHECKING:
    from ..formats.film import Frame


def predict_video(source: str | int, options: PredictOptions, name: str) -> None:
    """Write the poses of everyone in a film, or before the webcam of this number until Ctrl-C is pressed.

    `name`.poses.parquet is written in any case. Where the command was stopped or killed, the same command goes on.
    """
    subject = f"webcam {source}" if isinstance(source, int) else source
    with one_line_errors(subject):
        options.output.mkdir(parents=True, exist_ok=True)
        film = _Film(source, options, options.output / f"{name}.poses.parquet")
        film.estimate()
        film.finish()


class _Film:
    """A film, or what the webcam of a number sees, on its way through `predict` into a table."""

    def __init__(self, source: str | int, options: PredictOptions, table: Path):
        from ..formats.film import FrameReader, open_webcam
        from ..motion.prediction import VideoPredictor, VideoSettings
        from ..motion.recording import PoseRecording
        from ..motion.smoothing import SmoothingSettings
        from ..motion.tracking import TrackingSettings

        self.source, self.options, self.table = source, options, table
        self.is_live = isinstance(source, int)
        self.reader = open_webcam(source) if self.is_live else FrameReader(source, options.step)
        self.size = next(iter(self.reader)).image.size
        # what a webcam saw is kept as a film if it is to be drawn on later
        self.film = table.with_name(table.name.replace(".poses.parquet", ".mp4")) if self.is_live else source
        settings = VideoSettings(
            boxes=options.boxes,
            has_detector=options.detector is not None,
            tracking=TrackingSettings(follow=options.follow),
            smoothing=SmoothingSettings(options.smoothing),
            threshold=options.threshold,
            step=1 if self.is_live else options.step,
            camera=options.camera_of(self.size),
        )
        estimator = options.load_estimator()
        self.skeleton = estimator.model.config.skeleton
        self.predictor = VideoPredictor(estimator, settings)
        self.recording = PoseRecording(table, self.skeleton, self._describe(settings.step, settings.camera.describe()))
        self.frames_done, self.seconds_spent = 0, 0.0

    def _describe(self, step: int, camera: dict[str, Any]) -> dict[str, Any]:
        """Where the numbers come from; rows of two runs belong together only if this is the same for both."""
        options, path = self.options, Path(str(self.source))
        return options.describe() | {
            "film": path.name,
            "film_bytes": path.stat().st_size if path.is_file() else None,
            "step": step,
            "follow": options.follow,
            "boxes": options.boxes,
            "detector": options.detector,
            "detector_threshold": options.detector_threshold,
            "people": options.people,
            "camera": camera,
        }

    def estimate(self) -> None:
        """Go through the frames, or through those that an earlier run has left; a terminal shows how far it is."""
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress

        from ..motion.recording import record_poses

        first = self.recording.progress.next_frame
        if first:
            typer.echo(f"{self.source}: going on at frame {first}", err=True)
        total = None if self.is_live else self.reader.info().num_frames  # if the film has an end and tells
        console = Console(stderr=True)
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        started = time.monotonic()
        try:
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task(str(self.source), total=total, completed=first)
                for results in record_poses(self._frames, self.predictor, self.recording):
                    self.frames_done += len(results)
                    progress.advance(task, len(results) * self.reader.step)
        except KeyboardInterrupt:
            if not self.is_live:
                next_frame = self.recording.progress.next_frame
                typer.echo(f"{self.source}: stopped; the same command goes on at frame {next_frame}", err=True)
                raise
        self.seconds_spent = time.monotonic() - started

    def _frames(self, start: int) -> Iterable["Frame"]:
        from ..formats.film import FilmWriter, newest_frames

        if not self.is_live:
            self.reader.start = start
            yield from self.reader
        elif not self.options.overlay:
            yield from newest_frames(self.reader)
        else:
            with FilmWriter(self.film) as film:
                for frame in newest_frames(self.reader):
                    film.write(frame.image, frame.time_s)
                    yield frame

    def finish(self) -> None:
        """Smooth the rows, write the table and all that is made of it, and report."""
        from ..formats.film import FrameReader
        from ..formats.motions import load_motions, motion_rows
        from ..motion.recording import read_rows
        from ..motion.smoothing import smooth_rows

        settings, about = self.predictor.settings, self.recording.settings
        rows = smooth_rows(self.recording.rows(), self.skeleton, settings.smoothing)
        self.recording.write_table(rows, about | {"smoothing": vars(settings.smoothing)})
        written = [self.table.name]
        if self.options.format:
            poses = motion_rows(load_motions(self.table))
            written += write_formats(poses, self.table.with_suffix(""), self.options, self.skeleton, about)
        if self.options.overlay:
            from ..visualization.figures import write_overlay

            drawn = self.table.with_suffix(".mp4")
            write_overlay(FrameReader(self.film, settings.step), read_rows(self.table), self.skeleton, drawn)
            written.append(drawn.name)
        self._report()
        self.recording.remove_parts()
        typer.echo(f"see {', '.join(written)} in {self.options.output}")

    def _report(self) -> None:
        import numpy as np

        from ..people.words import NOBODY, count_people, describe_error, doubt_of_error, expected_error_mm
        from ..people_jointdetr import inside_picture

        people, errors_mm = set(), []
        for row in self.recording.rows():
            people.add(row["person"])
            points = np.array(row["joints_2d"], dtype=np.float64)
            errors_mm.append(expected_error_mm(row | {"inside": inside_picture(points, self.size)}))
        known = [each for each in errors_mm if np.isfinite(each)]
        error_mm = float(np.mean(known)) if known else np.nan
        found = ", ".join(filter(None, (count_people(len(people)), describe_error(error_mm)))) if people else NOBODY
        broken = f", {self.reader.broken} broken frames left out" if self.reader.broken else ""
        rate = self.frames_done / self.seconds_spent if self.frames_done else 0.0
        frames = "1 frame" if self.frames_done == 1 else f"{self.frames_done} frames"
        typer.echo(f"{self.source}: {frames}, {found}, {rate:.1f} frames/s{broken}")
        if doubt := doubt_of_error(error_mm, "give a box of the first frame"):
            typer.echo(f"{self.source}: {doubt}", err=True)
