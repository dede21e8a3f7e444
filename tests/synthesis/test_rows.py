"""Datasets of synthetic people: what is written, and that it is the same however it is written."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from filelock import FileLock

from jointdetr.data.schema import pose_features
from jointdetr.formats.shards import fill_one, open_folder
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.synthesis.rows import (
    SETTINGS_FILE,
    PersonRows,
    SynthesisSettings,
    person_seed,
    synthesize,
)

COUNT = 68  # the first shard takes two batches


def settings_for(folder: Path, **changes: object) -> SynthesisSettings:
    return replace(SynthesisSettings(output=folder, count=COUNT, seed=5, size=32, shard_size=40), **changes)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "data").glob("*"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset written by one process without interruption."""
    return synthesize(settings_for(tmp_path_factory.mktemp("people")))


@pytest.fixture(scope="module")
def rows(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path_factory.mktemp("cache")))


def test_rows_follow_the_schema(rows: datasets.Dataset) -> None:
    assert rows.features == pose_features(17)
    assert len(rows) == COUNT
    assert rows["frame"][:] == list(range(COUNT))
    row = rows[3]
    assert row["image"].format == "JPEG"
    assert row["image"].size == (32, 32)
    assert row["skeleton"] == HUMAN36M.name
    assert row["joints_3d_valid"] == row["joints_2d_valid"] == [True] * 17
    assert row["action"]
    assert len(set(rows["subject"][:])) == COUNT
    assert len({image.tobytes() for image in rows["image"][:]}) == COUNT


def test_labels_agree_with_one_another(rows: datasets.Dataset) -> None:
    for row in rows.select(range(8)):
        joints, intrinsics = np.array(row["joints_3d"]), np.array(row["intrinsics"])
        projected = joints @ intrinsics.T
        np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], row["joints_2d"], atol=0.01)


def test_two_workers_write_the_same(folder: Path, tmp_path: Path) -> None:
    synthesize(settings_for(tmp_path / "people", workers=2))
    assert shards(tmp_path / "people") == shards(folder)


def test_a_killed_run_is_taken_up_again(folder: Path, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    script = (
        "from jointdetr.synthesis.rows import *\n"
        f"synthesize(SynthesisSettings(**{settings.identity()!r}, output={str(tmp_path)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("data/.*.partial")):
            assert process.poll() is None, "the writer ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert len(shards(tmp_path)) == 1  # the half-written one
    synthesize(settings)
    assert shards(tmp_path) == shards(folder)


def test_finished_shards_are_left_alone(folder: Path, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    open_folder(tmp_path, SETTINGS_FILE, settings.identity())
    for path in settings.shards():
        path.write_bytes(b"finished")
    synthesize(settings)
    assert set(shards(tmp_path).values()) == {b"finished"}


def test_a_shard_in_other_hands_is_not_written(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    open_folder(tmp_path, SETTINGS_FILE, settings.identity())
    written = []
    _, path = settings.shards()
    with FileLock(tmp_path / ".locks" / f"{path.name}.lock"):
        assert not fill_one(written.append, (path, 1))
    assert not written
    assert fill_one(written.append, (path, 1))
    assert written == [1]


def test_a_folder_of_other_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"seed=5 \(asked for 6\); expected the same or an empty folder"):
        synthesize(settings_for(folder, seed=6))
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="data folder of unknown origin"):
        synthesize(settings_for(tmp_path))


def test_card_and_settings_are_written(folder: Path) -> None:
    assert json.loads((folder / "synthesis.json").read_text())["count"] == COUNT
    card = (folder / "README.md").read_text()
    assert f"{COUNT} pictures of 32 x 32 px" in card


@pytest.mark.parametrize(
    "changes, message",
    [({"count": 0}, "`count`"), ({"seed": -1}, "`seed`"), ({"quality": 100}, "`quality`"), ({"size": 0}, "`size`")],
)
def test_settings_are_checked(changes: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        settings_for(tmp_path, **changes)


def test_a_folder_without_motions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "walks").mkdir()
    settings = settings_for(tmp_path / "people", motions=tmp_path / "walks")
    assert settings.identity()["motions"] == "walks"
    with pytest.raises(ValueError, match=r"must hold \*\.asf files"):
        synthesize(settings)


def test_poses_can_come_from_motion_capture(real_data: Path, tmp_path: Path) -> None:
    motions = real_data / "cmu-mocap" / "subjects" / "03"
    people = PersonRows(settings_for(tmp_path, motions=motions))
    actions = [row["action"] for row in people.render(range(12))]
    clips = {path.stem for path in motions.glob("*.amc")}
    assert 2 <= sum(any(clip in action for clip in clips) for action in actions) <= 10


def test_seeds_of_people_differ() -> None:
    seeds = {person_seed(seed, number) for seed in range(3) for number in range(100)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)
