"""The framework of conversion: what is written, that it is the same however it is written, and what is refused."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conversion_examples import Turning, good_labels, person, project, write_turning

from jointdetr.converters.conversion import (
    Converter,
    Recording,
    RowLabels,
    Skipped,
    convert,
)
from jointdetr.converters.report import ConversionReport
from jointdetr.data.loading import load_pose_dataset
from jointdetr.data.schema import pose_features
from jointdetr.skeleton_jointdetr import HUMAN36M


def files(folder: Path) -> dict[str, bytes]:
    """All that a conversion leaves behind but its locks."""
    kept = (path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_turning(
        tmp_path_factory.mktemp("source"), train_a=(0, 100), train_b=(200, 30), test_c=(400, 12), train_d=(600, 50)
    )


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted by one process without interruption."""
    folder = tmp_path_factory.mktemp("converted")
    convert(Turning(source), folder)
    return folder


def test_rows_follow_the_schema_and_unsaid_columns_have_defaults(converted: Path) -> None:
    rows = load_pose_dataset(converted, "train")
    assert rows.features == pose_features(17)
    assert len(rows) == 99 + 29 + 49
    row = rows[3]
    assert row["frame"] == 4  # the third frame has no labels
    np.testing.assert_allclose(row["joints_3d"], person(4), rtol=1e-5)
    points = project(person(4))
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.1 * (high - low).max()
    np.testing.assert_allclose(row["box"], [*(low - margin), *(high - low + 2 * margin)], rtol=1e-4)
    assert row["joints_3d_valid"] == row["joints_2d_valid"] == [True] * 17
    assert row["visible"] == ((points >= 0) & (points < 128)).all(axis=1).tolist()
    assert row["skeleton"] == "human36m"
    assert row["image"].size == (128, 128)
    assert [row["frame"] for row in load_pose_dataset(converted, "test", streaming=True)][:3] == [400, 401, 403]


def test_the_report_counts_and_gives_examples(converted: Path, source: Path) -> None:
    report = json.loads((converted / "conversion.json").read_text())
    assert report["rows"] == {"test": 11, "train": 177}
    assert report["skipped"] == {
        "no labels": {
            "count": 4,
            "examples": [
                f"{source / name}, frame {frame}"
                for name, frame in (
                    ("test-c.json", 402),
                    ("train-a.json", 2),
                    ("train-b.json", 202),
                    ("train-d.json", 602),
                )
            ],
        }
    }
    assert report["failed"] == {}
    assert report["reprojection_px"]["max"] < 0.01


def test_two_workers_write_the_same(source: Path, converted: Path, tmp_path: Path) -> None:
    convert(Turning(source), tmp_path, workers=2)
    assert files(tmp_path) == files(converted)


def test_a_killed_run_is_taken_up_again(source: Path, converted: Path, tmp_path: Path) -> None:
    script = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parents[1] / 'helpers')!r})\n"
        "from pathlib import Path\n"
        "from conversion_examples import Turning\n"
        "from jointdetr.converters import conversion\n"
        "check = conversion.find_problem\n"
        "conversion.find_problem = lambda *row: time.sleep(0.02) or check(*row)\n"
        f"conversion.convert(Turning(Path({str(source)!r})), Path({str(tmp_path)!r}))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (list(tmp_path.glob("data/.*.partial")) and list(tmp_path.glob("data/*.parquet"))):
            assert process.poll() is None, "the conversion ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    (left,) = tmp_path.glob("data/.*.partial")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("data/*.parquet")}
    convert(Turning(source), tmp_path)
    assert files(tmp_path) == files(converted)
    assert not left.exists()
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())


def test_splits_may_be_converted_one_by_one(source: Path, converted: Path, tmp_path: Path) -> None:
    assert convert(Turning(source), tmp_path, split="test").rows == {"test": 11}
    assert len(load_pose_dataset(tmp_path, "test")) == 11
    convert(Turning(source), tmp_path, split="train")
    assert files(tmp_path) == files(converted)
    with pytest.raises(ValueError, match=r"`split` must be one of \['test', 'train'\], got 'validation'"):
        convert(Turning(source), tmp_path, split="validation")


def test_other_options_are_refused(source: Path, tmp_path: Path) -> None:
    convert(Turning(source), tmp_path, split="test")
    with pytest.raises(ValueError, match=r"step=1 \(asked for 2\)"):
        convert(Turning(source, step=2), tmp_path)


def test_a_full_disk_stops_the_run_and_loses_nothing(source: Path, converted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(Turning(source), out, split="test")
    partial = tmp_path / "out" / "data" / ".train-b.parquet.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised:
        convert(Turning(source), out, workers=2)
    assert raised.value.errno == errno.ENOSPC
    assert not partial.is_symlink()
    assert len(load_pose_dataset(tmp_path / "out", "test")) == 11
    convert(Turning(source), out)
    assert files(tmp_path / "out") == files(converted)


def test_a_broken_recording_fails_alone_and_is_tried_again(source: Path, converted: Path, tmp_path: Path) -> None:
    mine = write_turning(tmp_path / "source", train_a=(0, 100), train_b=(200, 30), test_c=(400, 12), train_d=(600, 50))
    broken = mine / "train-b.json"
    content = broken.read_text()
    broken.write_text(content[:10])
    report = convert(Turning(mine), tmp_path / "out")
    assert report.rows == {"test": 11, "train": 148}
    (complaint,) = report.complaints()
    assert f"1 recordings failed, the others are converted; the first is train-b: {broken}: " in complaint
    assert not (tmp_path / "out" / "data" / "train-b.parquet").exists()
    broken.write_text(content)
    assert not list(convert(Turning(mine), tmp_path / "out").complaints())
    for name in ("train-b", "test-c"):
        written = (tmp_path / "out" / "data" / f"{name}.parquet").read_bytes()
        assert written == (converted / "data" / f"{name}.parquet").read_bytes()


@dataclass(frozen=True)
class Spoilt(Converter):
    """Frames that `spoil` changes."""

    frames: int = 30
    skeleton = HUMAN36M
    spoil = staticmethod(lambda labels: None)

    def recordings(self) -> list[Recording]:
        return [Recording("a", "train", Path("a.mat"))]

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        for frame in range(self.frames):
            labels = good_labels(frame)
            type(self).spoil(labels)
            yield labels


def convert_spoilt(folder: Path, spoil: Callable[[dict], None], frames: int = 30) -> ConversionReport:
    converter = type("Spoilt", (Spoilt,), {"spoil": staticmethod(spoil)})
    return convert(converter(frames), folder)


def change(name: str, function: Callable) -> Callable[[dict], None]:
    """A fault in one column."""

    def spoil(labels: dict) -> None:
        labels[name] = function(labels[name])

    return spoil


def set_nan(joints: np.ndarray) -> np.ndarray:
    joints = joints.copy()
    joints[5] = np.nan
    return joints


FLIP = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13]
AXES = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]])


@pytest.mark.parametrize(
    ("name", "function", "said"),
    [
        (
            "joints_3d",
            lambda joints: joints / 1000,
            "bones of no person's length: .*; are these millimetres",
        ),
        ("joints_3d", lambda joints: joints - [0, 0, 5000], r"3D joints behind the camera.*world"),
        ("joints_3d", lambda joints: (joints - [0, 0, 3500]) @ AXES.T + [0, 0, 3500], "3D does not fall on 2D"),
        ("joints_3d", lambda joints: joints[FLIP], "3D does not fall on 2D: .*left for right"),
        (
            "joints_3d",
            lambda joints: joints[:16],
            r"`joints_3d` is of the wrong shape: .*got \(16, 3\)",
        ),
        ("joints_2d", lambda points: points + 5000, r"no joint inside the picture.*128 x 128"),
        ("intrinsics", lambda matrix: matrix * [[0.5], [0.5], [1]], "3D does not fall on 2D"),
        ("intrinsics", lambda matrix: np.where(matrix == 300, np.nan, matrix), "NaN or infinity in `intrinsics`"),
        ("image", lambda image: image[:20], "the picture cannot be read"),
        ("image", lambda image: Path("nowhere.jpg"), "the picture does not exist: .*nowhere.jpg"),
    ],
)
def test_faults_of_a_whole_recording_fail_it(tmp_path: Path, name: str, function: Callable, said: str) -> None:
    report = convert_spoilt(tmp_path, change(name, function))
    assert report.rows == {"train": 0}
    failure, empty = report.complaints()
    assert "a.mat, frame " in failure
    assert "rows refused" in failure
    with pytest.raises(ValueError, match="must hold a dataset in Parquet files"):  # the card promises no files
        load_pose_dataset(tmp_path)
    assert re.search(said, failure), failure
    assert empty == "the split 'train' has no row"
    assert not list(tmp_path.glob("data/*"))


def test_traded_sides_in_2d_and_3d_are_seen_by_the_knees(tmp_path: Path) -> None:
    def trade(labels: dict) -> None:
        labels["joints_3d"], labels["joints_2d"] = labels["joints_3d"][FLIP], labels["joints_2d"][FLIP]

    (failure, _) = convert_spoilt(tmp_path, trade).complaints()
    assert "a.mat: left and right are traded, or an axis is mirrored: the knees of 30 poses bend backwards" in failure


def test_single_faults_are_skipped_and_named(tmp_path: Path) -> None:
    def spoil(labels: dict) -> None:
        if labels["frame"] == 3:
            labels["joints_3d"] = set_nan(labels["joints_3d"])
            labels["joints_3d_valid"] = np.ones(17, bool)
        if labels["frame"] == 4:
            labels["frame"] = 2
        if labels["frame"] == 5:
            labels["joints_3d"] = set_nan(labels["joints_3d"])  # not claimed to be known: no fault
        if labels["frame"] == 6:
            labels["box"] = [10, 10, 0, 40]

    report = convert_spoilt(tmp_path, spoil)
    assert report.rows == {"train": 27}
    assert {reason: refusals.examples for reason, refusals in report.skipped.items()} == {
        "NaN or infinity in `joints_3d`": ["a.mat, frame 3: joints [5]"],
        "the frame is there twice": ["a.mat, frame 2: subject 'S1', action 'turn'"],
        "a box without an area": ["a.mat, frame 6: x, y, width, height [10.0, 10.0, 0.0, 40.0] px"],
    }
    assert not list(report.complaints())
    row = load_pose_dataset(tmp_path)[4 - 1]
    assert row["frame"] == 5
    assert row["joints_3d_valid"] == [joint != 5 for joint in range(17)]
    assert np.isnan(row["joints_3d"][5]).all()


def test_rows_may_have_2d_labels_only(tmp_path: Path) -> None:
    def flatten(labels: dict) -> None:
        del labels["joints_3d"], labels["intrinsics"]

    report = convert_spoilt(tmp_path, flatten, frames=3)
    assert report.reprojection_px == {}
    row = load_pose_dataset(tmp_path)[0]
    assert row["joints_3d_valid"] == [False] * 17
    assert np.isnan(row["joints_3d"]).all()
    assert np.isnan(row["intrinsics"]).all()


@dataclass(frozen=True)
class SkeletonsOnly(Converter):
    """Skeletons without pictures."""

    skeleton = HUMAN36M
    skeletons_only = True

    def recordings(self) -> list[Recording]:
        return [Recording("walk", "train", Path("walk.bvh"))]

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        for frame in range(3):
            yield {"joints_3d": person(frame), "frame": frame, "subject": "me"}


def test_skeletons_without_pictures_are_relative_to_their_root(tmp_path: Path) -> None:
    convert(SkeletonsOnly(), tmp_path)
    table = pq.read_table(tmp_path / "data" / "train-walk.parquet")
    assert set(table.column_names) == {"joints_3d", "joints_3d_valid", "skeleton", "subject", "action", "frame"}
    rows = table.to_pylist()
    np.testing.assert_allclose(rows[2]["joints_3d"], person(2) - person(2)[0], atol=1e-3)


def test_a_source_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recordings"):
        convert(Turning(tmp_path), tmp_path / "out")


def test_a_report_survives_json() -> None:
    report = ConversionReport({"train": 3}, errors_px=[1.0])
    report.skip("why", ["file, frame 3"], 7)
    assert ConversionReport.from_dict(json.loads(json.dumps(asdict(report)))) == report


def test_recordings_of_one_name_in_two_splits_are_both_said_to_have_failed(tmp_path: Path) -> None:
    source = write_turning(tmp_path / "source", train_a=(0, 3), test_a=(0, 3))
    for path in source.glob("*.json"):
        path.write_text("{")
    report = convert(Turning(source), tmp_path / "out")
    assert sorted(report.failed) == ["test-a", "train-a"]
    assert next(report.complaints()).startswith("2 recordings failed")


def test_a_worker_that_is_killed_is_said(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="terminated abruptly"):
        convert(Deadly(), tmp_path, workers=2)


@dataclass(frozen=True)
class Deadly(Converter):
    """Kills the process that converts it."""

    skeleton = HUMAN36M

    def recordings(self) -> list[Recording]:
        return [Recording("a", "train", Path("a.mat"))]

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield Skipped("never")
