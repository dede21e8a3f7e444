"""Conversion of other data sets: many processes, restartable, every row checked, a report of what was left out.

A converter knows one source: a frozen dataclass whose fields are its options, with the `skeleton` of its joints. It
lists its `recordings()`, and makes the `rows` of one of them. All else happens here, the same for all of them.
docs/data.md shows how to write one.

Rows of a recording become one file, so it should have no more than some ten thousand. A `ValueError` or `OSError` from
`rows` fails its recording: that is reported, nothing of it is written, the others go on, and the next run tries it
again. A frame that is of no use is `Skipped`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from functools import partial
from importlib import import_module
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin

import datasets
import numpy as np
import pyarrow as pa

from ..data.rows import (
    SKELETON_COLUMNS,
    Problem,
    RowError,
    complete_row,
    complete_skeleton_row,
    find_problem,
    knee_bend,
    recording_problem,
    reprojection_error,
)
from ..data.schema import pose_features
from ..data.skeleton_mapping import map_row, mapping_weights
from ..formats.shards import fill, open_folder, parquet_aside, write_aside
from ..formats.skeletons import skeleton_json
from ..skeleton_jointdetr import Skeleton
from .report import ROWS_AT_ONCE, SKELETON_FILE, ConversionReport, write_card

CONVERTERS = {
    "human36m": "human36m.human36m_converter",
    "mpi-inf-3dhp": "mpi_inf_3dhp.mpi_inf_3dhp_converter",
    "3dpw": "three_dpw.ThreeDpw",
    "panoptic": "panoptic.Panoptic",
    "coco": "coco.CocoKeypoints",
    "lsp": "lsp.LeedsSportsPose",
    "folder": "folder.Folder",
    "bvh": "motion_files.Bvh",
    "asf-amc": "motion_files.AsfAmc",
}
"""Maker of each converter by the name `jointdetr convert` knows it by: a class, or a function that looks which files
there are. It is imported when it is asked for, so that nobody waits for readers of files that he does not have."""

MARKERS, REPORT_FILE = ".conversion", "conversion.json"
LARGEST_REFUSED_FRACTION = 0.5

RowLabels = Mapping[str, Any]
"""Columns of a row as a converter gives them; see `complete_row`."""


class Recording(NamedTuple):
    """A part of a source that is converted in one go, such as a film."""

    name: str  # of the file of its rows: letters, digits and `._-`, different within a split
    split: str
    source: Path  # named when something is wrong with it
    data: Any = None  # what else the converter wants to know

    @property
    def file_name(self) -> str:
        """Name of the files about it, without what they end in."""
        return f"{self.split}-{self.name}"


class Skipped(NamedTuple):
    """A row, or several in a row, that a converter leaves out."""

    reason: str  # the same for all rows with it
    detail: str = ""
    frame: int | None = None
    count: int = 1


class Converter(ABC):
    """What knows a source."""

    skeleton: ClassVar[Skeleton]
    skeletons_only: ClassVar[bool] = False  # rows have `SKELETON_COLUMNS`, no pictures
    shows_nobody: ClassVar[bool] = False  # rows may have `nobody`

    @abstractmethod
    def recordings(self) -> list[Recording]:
        """List all recordings, always in the same order; raise `ValueError` where the source is not as expected."""

    @abstractmethod
    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """Make the rows of a recording in the order of its frames."""

    def remarks(self, recording: Recording) -> list[str]:
        """What the report shall say beside a recording's rows, such as joints whose names are not known."""
        return []

    def __getstate__(self) -> dict[str, Any]:
        """Go to another process without what is cached."""
        return {option.name: getattr(self, option.name) for option in fields(self)}


def make_converter(name: str, source: Path, **options: Any) -> Converter:
    """Make the converter of a name, one of `CONVERTERS`; options that are texts are read as it wants them.

    Raises:
        ValueError: There is none of this name, it has no such option, or the source is not as it expects.
    """
    if name not in CONVERTERS:
        raise ValueError(f"there are converters for {', '.join(CONVERTERS)}; got {name!r}")
    if not source.exists():
        raise ValueError(f"{source} does not exist")
    module, _, maker = CONVERTERS[name].partition(".")
    make = getattr(import_module(f".{module}", __package__), maker)
    kinds = {option.name: option.annotation for option in signature(make).parameters.values()}
    del kinds["source"]
    if unknown := sorted(set(options) - set(kinds)):
        raise ValueError(f"options of {name} are {', '.join(kinds)}; got {', '.join(unknown)}")
    return make(source, **{option: _read_option(option, value, kinds[option]) for option, value in options.items()})


def _read_option(name: str, value: Any, kind: Any) -> Any:
    """Read a text: one of several words, a whole number, a path, or words with commas between them."""
    if not isinstance(value, str):
        return value
    kinds = [kind, *get_args(kind)]  # `int | None` is an `int`, too
    choices = [choice for part in kinds if get_origin(part) is Literal for choice in get_args(part)]
    if choices and value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}")
    if get_origin(kind) is tuple:
        return tuple(value.split(","))
    try:
        return int(value) if int in kinds else Path(value) if Path in kinds else value
    except ValueError as error:
        raise ValueError(f"`{name}` must be a whole number, got {value!r}") from error


def convert(
    converter: Converter, output: Path, workers: int = 1, split: str | None = None, skeleton: Skeleton | None = None
) -> ConversionReport:
    """Convert a source, or what is missing of it, to Parquet files for `load_pose_dataset`.

    The files are the same for any number of workers and however often the run was interrupted; after an error what was
    complete remains. `report.complaints()` says whether something was left out or failed.
    """
    target = skeleton or converter.skeleton
    if not mapping_weights(converter.skeleton, target)[1][target.root]:
        root, names = target.joints[target.root], (converter.skeleton.name, target.name)
        raise ValueError(f"skeleton {names[0]!r} cannot be mapped to {names[1]!r}: nothing gives its root {root!r}")
    markers = {_marker(output, recording): recording for recording in _chosen(converter.recordings(), split)}
    # everything that decides what the files hold, unlike where the source lies
    options = {name: value for name, value in converter.__getstate__().items() if not isinstance(value, Path)}
    settings = {"converter": type(converter).__name__, "skeleton": target.name} | options
    settings = json.loads(json.dumps(settings))  # as they will be read again
    open_folder(output, f"{MARKERS}/settings.json", settings)
    write_aside(output / SKELETON_FILE, skeleton_json(target).encode())
    for path, report in _finished(output).items():
        if report.failed:  # another try
            path.unlink()
    fill(markers, partial(_write_recording, converter, target, output), workers, "recordings")
    total = ConversionReport()
    for report in _finished(output).values():
        total.add(report)
    write_aside(output / REPORT_FILE, (json.dumps(total.summary(), indent=2) + "\n").encode())
    write_aside(output / "README.md", write_card(settings, total).encode())
    return total


def _chosen(recordings: list[Recording], split: str | None) -> list[Recording]:
    """Recordings of a split, or all of them."""
    if not recordings:
        raise ValueError("the source has no recordings")
    splits = sorted({recording.split for recording in recordings})
    if split is not None and split not in splits:
        raise ValueError(f"`split` must be one of {splits}, got {split!r}")
    if (names := len({recording.file_name for recording in recordings})) < len(recordings):
        raise ValueError(f"recordings must have different names, got {names} for {len(recordings)}")
    return [recording for recording in recordings if split in (None, recording.split)]


def _marker(output: Path, recording: Recording) -> Path:
    """File that says a recording is done, and what became of it."""
    return output / MARKERS / f"{recording.file_name}.report.json"


def _finished(output: Path) -> dict[Path, ConversionReport]:
    """Reports of all recordings that are done, by their files."""
    paths = sorted(output.glob(f"{MARKERS}/*.report.json"))
    return {path: ConversionReport.from_dict(json.loads(path.read_text())) for path in paths}


def _write_recording(converter: Converter, skeleton: Skeleton, output: Path, recording: Recording) -> None:
    """Write the rows of a recording, then what became of it, which marks it as done."""
    checked = CheckedRows(converter, skeleton, recording)
    report, schema = checked.report, checked.features.arrow_schema
    shard = output / "data" / f"{recording.file_name}.parquet"
    try:
        with parquet_aside(shard, schema) as writer:
            rows = checked.rows()
            while batch := list(islice(rows, ROWS_AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            checked.require_sound()
        if not report.rows[recording.split]:
            shard.unlink()
    except RecordingError as error:
        report = ConversionReport({recording.split: 0}, failed={recording.file_name: str(error)})
    write_aside(_marker(output, recording), json.dumps(asdict(report)).encode())


class RecordingError(Exception):
    """A recording cannot be converted; the others can."""


class CheckedRows:
    """The good rows of a recording with the joints of `skeleton`, and the report of the others."""

    def __init__(self, converter: Converter, skeleton: Skeleton, recording: Recording) -> None:
        self.converter, self.skeleton, self.recording = converter, skeleton, recording
        self.features = pose_features(len(skeleton.joints), converter.shows_nobody)
        if converter.skeletons_only:
            self.features = datasets.Features({name: self.features[name] for name in SKELETON_COLUMNS})
        self.report = ConversionReport({recording.split: 0})
        self.knee_bends: list[float] = []
        self.seen: set[tuple] = set()
        self.refusals: list[Skipped] = []

    def rows(self) -> Iterator[dict[str, Any]]:
        """Complete and check what the converter gives; rows are ready for writing."""
        for labels in self._given():
            if not isinstance(labels, Skipped):
                try:
                    yield self._accepted(self._checked(labels))
                    continue
                except RowError as error:
                    labels = Skipped(*error.problem, labels.get("frame"))
                    self.refusals.append(labels)
            self.report.skip(labels.reason, [self._example(labels)], labels.count)

    def require_sound(self) -> None:
        """Fail the recording if most of its rows were refused, or if they make no sense together."""
        refused, checked = len(self.refusals), len(self.refusals) + self.report.rows[self.recording.split]
        if refused > LARGEST_REFUSED_FRACTION * checked:
            last = self.refusals[-1]
            raise RecordingError(f"{refused} of {checked} rows refused: {last.reason}: {self._example(last)}")
        if problem := recording_problem(self.knee_bends):
            raise RecordingError(f"{self.recording.source}: {problem}")

    def _given(self) -> Iterator[RowLabels | Skipped]:
        """Give what the converter gives; an error in reading the source is not one in writing the output."""
        own = self.converter.skeleton
        try:
            self.report.notes = self.converter.remarks(self.recording)
            for labels in self.converter.rows(self.recording):
                is_mapped = self.skeleton != own and not isinstance(labels, Skipped)
                yield map_row(labels, own, self.skeleton) if is_mapped else labels
        except (OSError, ValueError) as error:
            source = str(self.recording.source)
            raise RecordingError(str(error) if source in str(error) else f"{source}: {error}") from error

    def _checked(self, labels: RowLabels) -> dict[str, Any]:
        """Fill in what the source does not say, and refuse what is wrong."""
        complete = complete_skeleton_row if self.converter.skeletons_only else complete_row
        row = complete(labels, self.skeleton)
        problem = find_problem(row, self.skeleton)
        key = tuple(row.get(name) for name in ("subject", "action", "camera", "frame"))
        if row["frame"] >= 0 and key in self.seen:
            problem = problem or Problem("the frame is there twice", f"subject {key[0]!r}, action {key[1]!r}")
        if problem is not None:
            raise RowError(problem)
        self.seen.add(key)
        return row

    def _accepted(self, row: dict[str, Any]) -> dict[str, Any]:
        """Note what the report wants to know of a good row, and make it ready for writing."""
        self.report.rows[self.recording.split] += 1
        self.knee_bends.append(knee_bend(row["joints_3d"], self.skeleton))
        if "joints_2d" in row and np.isfinite(error := reprojection_error(row)):
            self.report.errors_px.append(round(error, 3))
        values = {name: row[name] for name in self.features}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}

    def _example(self, left_out: Skipped) -> str:
        where = "" if left_out.frame is None or left_out.frame < 0 else f", frame {left_out.frame}"
        return f"{self.recording.source}{where}" + (f": {left_out.detail}" if left_out.detail else "")
