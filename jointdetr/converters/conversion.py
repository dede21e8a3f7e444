"""Conversion of other data sets: many processes, restartable, every row checked, a report of what was left out.

A converter knows one source: a frozen dataclass whose fields are its options, with the `skeleton` of its joints. It
lists its `recordings()`, and makes the `rows` of one of them. All else happens here, the same for all of them:

```python
@dataclass(frozen=True)
class MyCaptures(Converter):
    '''My captures: a film and an npz of joints for each recording.'''

    source: Path
    step: int = 1
    skeleton = MY_SKELETON  # no annotation, so that it is no option

    def recordings(self) -> list[Recording]:
        files = sorted(self.source.glob("*.npz"))
        return [Recording(file.stem, "train", file) for file in files]

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        with np.load(recording.source) as labels:
            joints, points = labels["joints_mm"], labels["points_px"]
        for frame in FrameReader(recording.source.with_suffix(".mp4"), self.step):
            if frame.index >= len(joints):
                yield Skipped("the film is longer than its labels", frame=frame.index)
                continue
            yield {"image": frame.image, "joints_3d": joints[frame.index], "joints_2d": points[frame.index],
                   "intrinsics": K, "subject": "me", "action": recording.name, "frame": frame.index}

report = convert(MyCaptures(Path("captures")), ConversionSettings("converted", workers=8))
```

What a row may leave out is said by [`jointdetr.data.rows.complete_row`]; a label that is not known is NaN, positions
are mm in the camera's axes, frames count from 0. People in one picture need different values of `subject`. Rows say
the name of the skeleton only; the folder has it whole, as `skeleton.json`. With `skeletons_only = True`
in the class, rows are of [`jointdetr.data.rows.skeleton_features`]: no picture, `joints_3d` in mm with y down. With
`shows_nobody = True` rows may have `nobody`: true for a box that is known to show no person.

Every row is checked (`jointdetr.data.rows`). One that fails is left out and reported; if most fail, the
recording does. A `ValueError` or `OSError` from `rows` fails its recording, too: that is reported, nothing of it is
written, the others go on, and the next run tries it again. Raise it for a missing or broken file; yield `Skipped` for
a frame that is of no use.

Rows of a recording become one file, so it should have no more than some ten thousand. What is loaded once for many
recordings may be kept in a `functools.cached_property`: a process keeps its converter to its end.
"""

import errno
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.rows import (
    Problem,
    RowError,
    complete_row,
    complete_skeleton_row,
    find_problem,
    knee_bend,
    recording_problem,
    reprojection_errors,
    skeleton_features,
)
from ..data.schema import pose_features
from ..formats.shards import OnProgress, fill, open_folder, parquet_aside, run_workers, write_aside
from ..formats.skeletons import skeleton_json
from ..skeleton_jointdetr import Skeleton
from .report import SKELETON_FILE, ConversionReport, RecordingReport, gather, write_card

SETTINGS_FILE, REPORT_FILE = "settings.json", "conversion.json"
ROWS_AT_ONCE = 64
LARGEST_REFUSED_FRACTION = 0.5
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

RowLabels = Mapping[str, Any]
"""Columns of a row as a converter gives them; see `complete_row`."""


class Recording(NamedTuple):
    """A part of a source that is converted in one go, such as a film.

    Args:
        name: Names the file of its rows; letters, digits and `._-`; different for each recording of a split.
        split: Such as "train" or "test".
        source: The file that is named when something is wrong with it.
        data: What else the converter wants to know; it can be pickled.
    """

    name: str
    split: str
    source: Path
    data: Any = None


class Skipped(NamedTuple):
    """A row that a converter leaves out.

    Args:
        reason: The same for all rows with it.
        detail: What this one has.
        frame: Its number in the recording, where it has one.
        count: How many rows in a row.
    """

    reason: str
    detail: str = ""
    frame: int | None = None
    count: int = 1


class Converter(ABC):
    """What knows a source: a frozen dataclass, as the description of this module shows."""

    skeleton: ClassVar[Skeleton]
    skeletons_only: ClassVar[bool] = False
    shows_nobody: ClassVar[bool] = False

    @abstractmethod
    def recordings(self) -> list[Recording]:
        """List all recordings, always in the same order; raise `ValueError` where the source is not as expected."""

    @abstractmethod
    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """Make the rows of a recording in the order of its frames."""

    def remarks(self, recording: Recording) -> list[str]:
        """What the report shall say beside a recording's rows, such as joints whose names are not known."""
        return []


@dataclass(frozen=True)
class ConversionSettings:
    """Where a conversion goes, and how.

    Args:
        output: folder to write to; it may hold a part of the same conversion.
        workers: processes to start; 1 works in the calling process.
        split: convert this split only.
        limit: at most so many rows of each recording, to try a conversion out.

    Raises:
        ValueError: a number below 1.
    """

    output: str | Path
    workers: int = 1
    split: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        for name in ("workers", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")


def convert(converter: Converter, settings: ConversionSettings) -> ConversionReport:
    """Convert a source, or what is missing of it, to Parquet files for `load_pose_dataset`.

    The files are the same for any number of workers and however often the run was interrupted.

    Args:
        converter: knows the source.
        settings: where to write, and how.

    Returns:
        What is in the folder, and what was left out or failed; `report.complaints()` says whether something did.

    Raises:
        ValueError: The source has no recordings, recordings share a name, or the folder holds something else.
        OSError: The disk is full, or cannot be written; what was complete remains.
        RuntimeError: A worker died.
    """
    recordings = _choose(converter, settings.split)
    folder = Path(settings.output)
    open_folder(folder, f".conversion/{SETTINGS_FILE}", _identity(converter, settings))
    write_aside(folder / SKELETON_FILE, skeleton_json(converter.skeleton).encode())
    for path in _marker_paths(folder):
        if RecordingReport.load(path).failed is not None:  # another try
            path.unlink()
    task = Task(replace(converter), recordings, settings)  # without what the caller's copy has cached
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("recordings", total=len(recordings))

        def on_progress(in_hand: int) -> None:
            done = sum(task.marker(recording).exists() for recording in recordings)
            progress.update(bar, completed=done, description=f"recordings ({in_hand} rows in hand)")

        run_workers(partial(_convert_missing, task), settings.workers, on_progress)
        progress.update(bar, completed=len(recordings), description="recordings")
    return _finish(folder)


def _choose(converter: Converter, split: str | None) -> list[Recording]:
    """List the recordings of a split, or all of them."""
    recordings = converter.recordings()
    if not recordings:
        raise ValueError("the source has no recordings")
    splits = sorted({recording.split for recording in recordings})
    if split is not None and split not in splits:
        raise ValueError(f"`split` must be one of {splits}, got {split!r}")
    seen = set()
    for recording in recordings:
        key = f"{recording.split}-{recording.name}"
        if key in seen or not key.replace(".", "").replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"names of recordings must differ and be of letters, digits and ._-, got {key!r}")
        seen.add(key)
    return [recording for recording in recordings if split in (None, recording.split)]


def _identity(converter: Converter, settings: ConversionSettings) -> dict[str, Any]:
    """Everything that decides what the files hold, unlike where the source lies and by how many it is converted."""
    named = {"converter": type(converter).__name__, "skeleton": converter.skeleton.name, "limit": settings.limit}
    return json.loads(json.dumps(named | _options(converter)))  # as it will be read again


def _options(described: Any) -> dict[str, Any]:
    """Return the options of a converter, and of the converter or skeleton among them; not where the source lies."""
    options = {option.name: getattr(described, option.name) for option in fields(described)}
    kept = {name: value for name, value in options.items() if not isinstance(value, Path)}
    return {name: _described(value) if is_dataclass(value) else value for name, value in kept.items()}


def _described(part: Any) -> dict[str, Any]:
    """Return kind and options of a converter or skeleton that is an option of a converter."""
    return {"kind": type(part).__name__} | _options(part)


@dataclass(frozen=True)
class Task:
    """A conversion as a worker process gets it."""

    converter: Converter
    recordings: list[Recording]
    settings: ConversionSettings

    @property
    def folder(self) -> Path:
        """Where to write."""
        return Path(self.settings.output)

    def marker(self, recording: Recording) -> Path:
        """File that says a recording is done, and what became of it."""
        return self.folder / ".conversion" / f"{recording.split}-{recording.name}.json"

    def shard(self, recording: Recording) -> Path:
        """File of a recording's rows."""
        return self.folder / "data" / f"{recording.split}-{recording.name}.parquet"


def _convert_missing(task: Task, on_progress: OnProgress) -> None:
    """Convert every recording that is missing."""

    def write(number: int) -> None:
        writer = RecordingWriter(task, task.recordings[number], on_progress)
        writer.write()
        on_progress(0)

    fill([task.marker(recording) for recording in task.recordings], write, task.folder / ".locks")


def _features(converter: Converter) -> datasets.Features:
    """Columns of a converter's rows."""
    num_joints = len(converter.skeleton.joints)
    if converter.skeletons_only:
        return skeleton_features(num_joints)
    return pose_features(num_joints, nobody=converter.shows_nobody)


class RecordingWriter:
    """Writes the rows of one recording, and what became of it.

    Args:
        task: the conversion.
        recording: what to convert.
        on_progress: called with the number of rows done.
    """

    def __init__(self, task: Task, recording: Recording, on_progress: OnProgress) -> None:
        self.task = task
        self.recording = recording
        self.on_progress = on_progress
        self.skeleton = task.converter.skeleton
        self.with_pictures = not task.converter.skeletons_only
        self.schema = _features(task.converter).arrow_schema
        self.report = RecordingReport(recording.name, recording.split)
        self.knee_bends: list[float] = []
        self.seen: set[tuple] = set()
        self.refused = 0
        self.refusal: Problem | None = None

    def write(self) -> None:
        """Write the rows, then the report, which marks the recording as done."""
        shard = self.task.shard(self.recording)
        try:
            self._write_rows(shard)
        except _RecordingError as error:
            shard.unlink(missing_ok=True)
            self.report = RecordingReport(self.recording.name, self.recording.split, failed=str(error))
        except OSError as error:  # reading the source raises _RecordingError
            raise _explain(error, shard) from error
        write_aside(self.task.marker(self.recording), json.dumps(asdict(self.report)).encode())

    def _write_rows(self, shard: Path) -> None:
        """Write the file of the rows, or none if there is no row."""
        rows = itertools.islice(self._good_rows(), self.task.settings.limit)
        with parquet_aside(shard, self.schema) as writer:
            while batch := list(itertools.islice(rows, ROWS_AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(batch, schema=self.schema))
                self.report.rows += len(batch)
                self.on_progress(self.report.rows)
            self._require_sound()
        if not self.report.rows:
            shard.unlink()

    def _good_rows(self) -> Iterator[dict[str, Any]]:
        """Complete and check what the converter gives."""
        for labels in self._labels():
            if isinstance(labels, Skipped):
                example = self._example(labels.frame, labels.detail)
                self.report.skip(labels.reason, example, labels.count)
                continue
            try:
                row = self._checked(labels)
            except RowError as error:
                self.report.skip(error.problem.reason, self._example(labels.get("frame"), error.problem.detail))
                self.refused += 1
                self.refusal = error.problem
            else:
                yield self._accept(row)

    def _labels(self) -> Iterator[RowLabels | Skipped]:
        """Give what the converter gives; an error in reading the source is not one in writing the output."""
        try:
            self.report.notes += self.task.converter.remarks(self.recording)
            yield from self.task.converter.rows(self.recording)
        except (OSError, ValueError) as error:
            raise _RecordingError(self._named(str(error))) from error

    def _checked(self, labels: RowLabels) -> dict[str, Any]:
        """Fill in what the source does not say, and refuse what is wrong."""
        try:
            row = (complete_row if self.with_pictures else complete_skeleton_row)(labels, self.skeleton)
        except RowError:
            raise
        except ValueError as error:
            raise _RecordingError(self._example(labels.get("frame"), str(error))) from error
        problem = find_problem(row, self.skeleton) or self._duplicate(row)
        if problem is not None:
            raise RowError(problem)
        return row

    def _duplicate(self, row: RowLabels) -> Problem | None:
        """Find a frame that came before."""
        key = tuple(row.get(name) for name in ("subject", "action", "camera", "frame"))
        if row["frame"] >= 0 and key in self.seen:
            return Problem("the frame is there twice", f"subject {row['subject']!r}, action {row['action']!r}")
        self.seen.add(key)
        return None

    def _accept(self, row: dict[str, Any]) -> dict[str, Any]:
        """Note what the report wants to know of a good row, and make it ready for writing."""
        self.knee_bends.append(knee_bend(row["joints_3d"], self.skeleton))
        if self.with_pictures:
            errors = reprojection_errors(row)
            if np.isfinite(errors).any():
                self.report.reprojection_px.append(round(float(np.nanmean(errors)), 3))
        values = {name: row[name] for name in self.schema.names}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}

    def _require_sound(self) -> None:
        """Fail the recording if most of its rows were refused, or if they make no sense together."""
        if self.refused > LARGEST_REFUSED_FRACTION * (self.refused + self.report.rows):
            checked = self.refused + self.report.rows
            example = next(iter(self.report.skipped[self.refusal.reason].examples))
            raise _RecordingError(f"{self.refused} of {checked} rows refused: {self.refusal.reason}: {example}")
        problem = recording_problem(self.knee_bends)
        if problem is not None:
            raise _RecordingError(self._named(f"{problem.reason}: {problem.detail}"))

    def _example(self, frame: int | None, detail: str) -> str:
        """Name file and frame."""
        where = "" if frame is None or frame < 0 else f", frame {frame}"
        return f"{self.recording.source}{where}" + (f": {detail}" if detail else "")

    def _named(self, message: str) -> str:
        """Name the file unless the message does."""
        source = str(self.recording.source)
        return message if source in message else f"{source}: {message}"


class _RecordingError(Exception):
    """A recording cannot be converted; the others can."""


def _explain(error: OSError, path: Path) -> OSError:
    """Say what a full disk means here."""
    if error.errno not in DISK_FULL:
        return error
    return OSError(error.errno, f"the disk is full: {path} was not written, all before it was; make room, run again")


def _marker_paths(folder: Path) -> list[Path]:
    """Reports of all recordings that are done."""
    return [path for path in sorted((folder / ".conversion").glob("*.json")) if path.name != SETTINGS_FILE]


def _finish(folder: Path) -> ConversionReport:
    """Gather the report of a folder, save it, and write the dataset's card."""
    report = gather([RecordingReport.load(path) for path in _marker_paths(folder)])
    write_aside(folder / REPORT_FILE, (json.dumps(asdict(report), indent=2) + "\n").encode())
    settings = json.loads((folder / ".conversion" / SETTINGS_FILE).read_text())
    write_aside(folder / "README.md", write_card(settings, report).encode())
    return report
