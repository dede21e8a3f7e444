"""Tables of poses that outlive their process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from films import write_film
from squares import SQUARE, SquareEstimator, walk

from jointdetr.formats.film import FrameReader
from jointdetr.motion import load_motions
from jointdetr.motion.prediction import VideoPredictor, VideoSettings
from jointdetr.motion.recording import PoseRecording, Progress, read_rows, record_poses

NUM_FRAMES = 60


@pytest.fixture(scope="module")
def squares_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = [frame.image for frame in walk(NUM_FRAMES)]
    return write_film(tmp_path_factory.mktemp("squares") / "squares.mp4", pictures)


def open_recording(table: Path) -> PoseRecording:
    return PoseRecording(table, SQUARE, {"film": "squares"})


def run(film: Path, table: Path, keep_every_s: float = 0.0) -> list[int]:
    """Go through the film and write the table; returns the frames that were looked at."""
    predictor = VideoPredictor(SquareEstimator(), VideoSettings(batch_size=2))
    recording = open_recording(table)
    batches = record_poses(lambda start: FrameReader(film, start=start), predictor, recording, keep_every_s)
    seen = [result.frame.index for batch in batches for result in batch]
    recording.write_table(recording.rows(), recording.settings)
    recording.remove_parts()
    return seen


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_killed_and_gone_on_with_the_file_is_the_same_to_the_byte(squares_film, tmp_path):
    table = tmp_path / "killed" / "squares.poses.parquet"
    script = Path(__file__).parents[1] / "helpers" / "slow_film.py"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, str(script), str(squares_film), str(table)], env=environment)
    parts = open_recording(table).folder
    wait_for(lambda: len(list(parts.glob("part-*.parquet"))) >= 4 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    kept = open_recording(table).progress
    assert 0 < kept.next_frame < NUM_FRAMES
    assert not kept.finished
    assert run(squares_film, table) == list(range(kept.next_frame, NUM_FRAMES))

    undisturbed = tmp_path / "squares.poses.parquet"
    assert run(squares_film, undisturbed, keep_every_s=100.0) == list(range(NUM_FRAMES))
    assert table.read_bytes() == undisturbed.read_bytes()
    assert sorted(path.name for path in table.parent.iterdir()) == [table.name]


def test_an_error_loses_nothing(squares_film, tmp_path):
    table = tmp_path / "squares.poses.parquet"

    def failing_frames(start: int):
        for frame in FrameReader(squares_film, start=start):
            if frame.index == 11:
                raise OSError("the disk is gone")
            yield frame

    predictor = VideoPredictor(SquareEstimator(), VideoSettings(batch_size=2))
    with pytest.raises(OSError, match="the disk is gone"):
        list(record_poses(failing_frames, predictor, open_recording(table), keep_every_s=100.0))

    recording = open_recording(table)
    assert recording.progress.next_frame == 10
    assert [row["frame"] for row in recording.rows()] == list(range(10))


def test_table_is_read_as_motions(squares_film, tmp_path):
    table = tmp_path / "squares.poses.parquet"
    run(squares_film, table)
    (motion,) = load_motions(table)

    assert motion.skeleton.joints == SQUARE.joints
    np.testing.assert_allclose(motion.times_s, np.arange(NUM_FRAMES) / 25)
    np.testing.assert_allclose(motion.joints_2d[:, 0, 0], 10 + 2 * np.arange(NUM_FRAMES), atol=1)
    assert motion.detected.all()
    assert [row["frame"] for row in read_rows(table)] == list(range(NUM_FRAMES))
    assert b"squares" in pq.read_schema(table).metadata[b"jointdetr.about"]


def test_other_settings_do_not_go_on(tmp_path):
    table = tmp_path / "film.poses.parquet"
    open_recording(table).add([], Progress(3, {}))

    with pytest.raises(ValueError, match=r"was begun with other settings: film='squares' \(asked for 'circles'\)"):
        PoseRecording(table, SQUARE, {"film": "circles"})


def test_film_without_people_is_an_empty_table(tmp_path):
    recording = open_recording(tmp_path / "nobody.poses.parquet")
    recording.add([], Progress(5, {}, finished=True))
    recording.write_table(recording.rows(), recording.settings)

    assert load_motions(recording.path) == []
