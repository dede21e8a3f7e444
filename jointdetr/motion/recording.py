"""The table of a film's poses, written so that nothing is lost when the process is killed.

While the film is gone through, its rows lie in a folder beside the table to come, in parts that say in their metadata
which frame comes next and who was known then. At the end the parts are put together. The finished file is the same to
the byte however often the work was interrupted: what it holds depends on the rows alone, never on where a part ended.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..formats.film import Frame
from ..formats.motions import motion_schema, rows_table
from ..formats.shards import parquet_aside, require_same, write_aside
from ..skeleton_jointdetr import Skeleton
from .prediction import FrameResult, VideoPredictor
from .tracking import Tracker

PROGRESS_KEY = b"jointdetr.progress"
ABOUT_KEY = b"jointdetr.about"
SETTINGS_FILE = "settings.json"
ROWS_AT_ONCE = 1024
KEEP_EVERY_S = 10.0
Row = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """How far a film has come."""

    next_frame: int = 0  # index of the first frame that is not in the parts
    tracker: dict[str, Any] | None = None  # its state before that frame, in words for JSON; None at the beginning
    finished: bool = False  # whether the film has ended


class PoseRecording:
    """Rows of a film on their way into `path`, a Parquet file.

    `settings` are what decides what the rows are, such as film, model and threshold, in words for JSON.
    """

    def __init__(self, path: Path, skeleton: Skeleton, settings: dict[str, Any]) -> None:
        self.path = path
        self.folder = path.with_name(f".{path.name}.parts")
        self.schema = motion_schema(skeleton)
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.parts = sorted(self.folder.glob("part-*.parquet"))
        recorded = self.folder / SETTINGS_FILE
        found = json.loads(recorded.read_text()) if recorded.exists() else self.settings
        require_same(found, self.settings, f"{self.folder} was begun with")

    @property
    def progress(self) -> Progress:
        """How far the parts go."""
        if not self.parts:
            return Progress()
        return Progress(**json.loads(pq.read_schema(self.parts[-1]).metadata[PROGRESS_KEY]))

    def add(self, rows: list[Row], progress: Progress) -> None:
        """Keep rows for good, together with how far the film has come."""
        if not self.parts:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_aside(self.folder / SETTINGS_FILE, (json.dumps(self.settings, indent=2) + "\n").encode())
        metadata = self.schema.metadata | {PROGRESS_KEY: json.dumps(vars(progress)).encode()}
        schema = self.schema.with_metadata(metadata)
        part = self.folder / f"part-{len(self.parts):06d}.parquet"
        with parquet_aside(part, schema) as writer:
            writer.write_table(rows_table(rows, schema))
        self.parts.append(part)

    def rows(self) -> Iterator[Row]:
        """The rows of all parts, in the order of the film."""
        for part in self.parts:
            yield from pq.read_table(part).to_pylist()

    def write_table(self, rows: Iterable[Row], about: Mapping[str, Any]) -> None:
        """Write the table from rows, those of the parts or smoothed ones; `about` says what they are."""
        schema = self.schema.with_metadata(self.schema.metadata | {ABOUT_KEY: json.dumps(about).encode()})
        rows = iter(rows)
        with parquet_aside(self.path, schema) as writer:
            while group := list(islice(rows, ROWS_AT_ONCE)):
                writer.write_table(rows_table(group, schema))

    def remove_parts(self) -> None:
        """Forget the way to the table, once all that is made of it is there."""
        if self.parts:  # none, where nobody was seen before the webcam was stopped
            shutil.rmtree(self.folder)
        self.parts = []


def record_poses(
    frames_from: Callable[[int], Iterable[Frame]],
    predictor: VideoPredictor,
    recording: PoseRecording,
    keep_every_s: float = KEEP_EVERY_S,
) -> Iterator[list[FrameResult]]:
    """Go through a film, or go on where it was left, and keep the rows; the table is left to the caller.

    `frames_from` gives the frames of the film from an index on; the predictor's tracker is set to what it was then. If
    the process is killed, work of `keep_every_s` may be lost; on an error and on Ctrl-C nothing is.

    Yields:
        The results of each batch of frames.
    """
    progress = recording.progress
    if progress.finished:
        return
    if progress.tracker is not None:
        predictor.tracker = Tracker.of_state(predictor.settings.tracking, progress.tracker)
    held: tuple[list[Row], Progress] = ([], progress)  # one name, so that Ctrl-C never comes between the two
    kept_at = time.monotonic()
    finished = False
    try:
        for results in predictor.predict(frames_from(progress.next_frame)):
            rows = [row for result in results for row in result.people]
            last = results[-1].frame.index
            held = (held[0] + rows, Progress(last + predictor.settings.step, predictor.tracker.state()))
            if time.monotonic() - kept_at >= keep_every_s or len(held[0]) >= ROWS_AT_ONCE:
                recording.add(*held)
                held, kept_at = ([], held[1]), time.monotonic()
            yield results
        finished = True
    finally:
        if held[0] or finished:
            recording.add(held[0], replace(held[1], finished=finished))


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a finished table, a few at a time."""
    for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE):
        yield from batch.to_pylist()
