"""Predicting data sets: one line for every person, whoever does it, and however often it is killed."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from jointdetr.cli import app
from jointdetr.data.loading import load_pose_dataset
from jointdetr.data.prediction import PredictionJob, predict_shards
from jointdetr.motion import load_motions
from jointdetr.skeleton_jointdetr import HUMAN36M

NUM_SHARDS, ROWS = 4, 5
FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "box": datasets.List(datasets.Value("float32"), length=4),
        "intrinsics": datasets.List(datasets.List(datasets.Value("float32"), length=3), length=3),
        "subject": datasets.Value("string"),
        "frame": datasets.Value("int64"),
    }
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Four files of five pictures, whose brightness is the number of the row."""
    folder = tmp_path_factory.mktemp("pictures")
    intrinsics = [[90.0, 0, 24], [0, 90, 24], [0, 0, 1]]
    for shard in range(NUM_SHARDS):
        rows = [
            {
                "image": Image.new("RGB", (48, 48), (10 * (shard * ROWS + row),) * 3),
                "box": [4, 4, 40, 40],
                "intrinsics": intrinsics,
                "subject": f"S{shard}",
                "frame": shard * ROWS + row,
            }
            for row in range(ROWS)
        ]
        table = datasets.Dataset.from_list(rows, features=FEATURES)
        table.to_parquet(folder / f"train-{shard:05d}-of-{NUM_SHARDS:05d}.parquet")
    return folder


def fake_estimator(items):
    """One person a picture, whose joints say how bright it is."""
    values = [float(np.asarray(item["image"])[0, 0, 0]) for item in items]
    return [
        [
            {
                "box": torch.tensor(item["boxes"][0]),
                "joints": torch.full((17, 3), value),
                "joints_2d": torch.full((17, 2), value),
                "scores": torch.ones(17),
                "detected": torch.ones(17, dtype=torch.bool),
            }
        ]
        for item, value in zip(items, values, strict=True)
    ]


def job(folder, output, estimator=fake_estimator, **options):
    rows = load_pose_dataset(folder, streaming=True, columns=("image",))
    return PredictionJob(rows, estimator, HUMAN36M, output, {"model": "fake"}, batch_size=2, **options)


def read(output):
    files = sorted((output / "data").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_each_shard_has_a_file_and_each_row_its_line(shards, tmp_path):
    report = predict_shards(job(shards, tmp_path / "out"))
    assert (report.shards, report.pictures, report.people, report.unreadable) == (4, 20, 20, 0)
    lines = read(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(20))
    assert [line["row"] for line in lines] == list(range(ROWS)) * NUM_SHARDS
    assert [line["joints"][3][1] for line in lines] == [10.0 * number for number in range(20)]
    assert lines[7]["subject"] == "S1" and lines[7]["action"] is None and lines[7]["error"] is None
    (motion,) = load_motions(next(iter(sorted((tmp_path / "out" / "data").glob("*.parquet")))))
    assert motion.skeleton == HUMAN36M and len(motion) == ROWS


def test_a_second_run_does_nothing_and_a_lost_file_is_made_again(shards, tmp_path):
    predict_shards(job(shards, tmp_path / "out"))
    again = predict_shards(job(shards, tmp_path / "out"))
    assert (again.shards, again.pictures) == (0, 0)
    before = read(tmp_path / "out")
    sorted((tmp_path / "out" / "data").glob("*.parquet"))[2].unlink()
    assert predict_shards(job(shards, tmp_path / "out")).shards == 1
    assert read(tmp_path / "out") == before


def test_a_folder_of_other_settings_is_refused(shards, tmp_path):
    predict_shards(job(shards, tmp_path / "out"))
    other = PredictionJob(
        load_pose_dataset(shards, streaming=True, columns=("image",)), fake_estimator, HUMAN36M, tmp_path / "out", {}
    )
    with pytest.raises(ValueError, match="other settings: model='fake'"):
        predict_shards(other)


def test_a_single_file_is_split_by_its_row_groups(shards, tmp_path):
    rows = load_pose_dataset(shards, columns=("image",))
    rows.to_parquet(tmp_path / "all.parquet", batch_size=8)
    report = predict_shards(job(tmp_path / "all.parquet", tmp_path / "out"))
    assert report.shards == 3 and [line["frame"] for line in read(tmp_path / "out")] == list(range(20))


def test_rows_that_cannot_be_read_are_named_and_the_others_predicted(shards, tmp_path):
    table = load_pose_dataset(shards, columns=("image",)).cast_column("image", datasets.Image(decode=False))

    def spoil(row, index):
        return {"image": {"bytes": row["image"]["bytes"][:40], "path": None}} if index == 3 else row

    table.map(spoil, with_indices=True).to_parquet(tmp_path / "spoilt.parquet")
    report = predict_shards(job(tmp_path / "spoilt.parquet", tmp_path / "out"))
    assert (report.pictures, report.people, report.unreadable) == (20, 19, 1)
    (bad,) = [line for line in read(tmp_path / "out") if line["error"]]
    assert bad["row"] == 3 and "frame 3" in bad["error"] and np.isnan(bad["joints"]).all()
    assert "1 rows could not be read" in str(report)


def test_boxes_of_the_rows_or_of_the_caller_or_none(shards, tmp_path):
    seen = []

    def spy(items):
        seen.append(items[0].get("boxes"))
        return [[] for _ in items]

    predict_shards(job(shards, tmp_path / "own", spy))
    predict_shards(job(shards, tmp_path / "given", spy, boxes=[[1.0, 2.0, 3.0, 4.0]]))
    predict_shards(job(shards, tmp_path / "found", spy, own_boxes=False))
    assert [key for key, _ in itertools.groupby(seen)] == [[[4, 4, 40, 40]], [[1.0, 2.0, 3.0, 4.0]], None]
    assert read(tmp_path / "found") == []  # nobody anywhere


def test_command_predicts_as_the_pipeline_does(shards, tiny_model_folder, tmp_path):
    from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor, JointDetrPipeline

    arguments = ["predict", "--dataset", shards, "--model", tiny_model_folder, "--output", tmp_path, "--threshold", 0]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "4 shards, 20 pictures, 20 people" in result.output and "per second" in result.output
    line = read(tmp_path)[6]
    estimator = JointDetrPipeline(
        model=JointDetrForPoseEstimation.from_pretrained(tiny_model_folder),
        image_processor=JointDetrImageProcessor.from_pretrained(tiny_model_folder),
        threshold=0.0,
    )
    row = load_pose_dataset(shards, columns=("image",))[6]
    (person,) = estimator(row["image"], boxes=[row["box"]], intrinsics=row["intrinsics"])
    np.testing.assert_allclose(line["joints"], person["joints"], atol=0.05)
    np.testing.assert_allclose(line["joints_2d"], person["joints_2d"], atol=0.05)


def test_a_focal_length_is_of_all_pictures_whose_rows_have_no_intrinsics(shards, tiny_model_folder, tmp_path):
    from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor, JointDetrPipeline

    rows = load_pose_dataset(shards, columns=("image",))
    unknown = rows.remove_columns("intrinsics").select(range(3))
    unknown.to_parquet(str(tmp_path / "unknown.parquet"))
    arguments = ["predict", "--dataset", tmp_path / "unknown.parquet", "--model", tiny_model_folder, "--threshold", 0]
    arguments += ["--output", tmp_path / "out", "--focal-px", 90]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    line, row = read(tmp_path / "out")[1], rows[1]
    estimator = JointDetrPipeline(
        model=JointDetrForPoseEstimation.from_pretrained(tiny_model_folder),
        image_processor=JointDetrImageProcessor.from_pretrained(tiny_model_folder),
        threshold=0.0,
    )
    width, height = row["image"].size
    matrix = [[90, 0, width / 2], [0, 90, height / 2], [0, 0, 1]]
    (person,) = estimator(row["image"], boxes=[row["box"]], intrinsics=matrix)
    found, expected = (np.array(each["joints_camera"], dtype=float) for each in (line, person))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=0.5)
    assert not line["intrinsics_guessed"]


def predict_slowly(folder, output, shards_done):
    def slow(items):
        time.sleep(0.15)
        return fake_estimator(items)

    shards_done.value = predict_shards(job(folder, output, slow)).shards


def test_two_processes_of_which_one_is_killed_leave_every_row_once(shards, tmp_path):
    """The killed one's shard is taken over, and what it had begun is nowhere to be seen."""
    predict_shards(job(shards, tmp_path / "expected"))
    output = tmp_path / "out"
    context = multiprocessing.get_context("fork")  # spares importing everything again
    counts = [context.Value("i", 0) for _ in range(2)]
    victim, helper = (context.Process(target=predict_slowly, args=(shards, output, count)) for count in counts)
    victim.start()
    deadline = time.monotonic() + 60
    while not list(output.glob("data/.*.partial")) and time.monotonic() < deadline:
        time.sleep(0.01)
    helper.start()
    victim.kill()
    victim.join()
    assert list(output.glob("data/.*.partial")), "the process was to be killed in the midst of a shard"
    helper.join(timeout=120)
    assert (victim.exitcode, helper.exitcode) == (-signal.SIGKILL, 0)
    assert counts[1].value >= NUM_SHARDS - 1
    assert read(output) == read(tmp_path / "expected")
    assert not list(output.glob("data/.*.partial"))


def test_two_launched_processes_share_the_shards(shards, tiny_model_folder, tmp_path):
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "jointdetr",
    ]
    arguments = ["predict", "--dataset", shards, "--model", tiny_model_folder, "--output", tmp_path / "out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*launch, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    done = [line for line in run.stdout.splitlines() if "pictures per second" in line]
    assert len(done) == 2 and sum(int(line.split(": ")[1].split()[0]) for line in done) == NUM_SHARDS
    assert [line["frame"] for line in read(tmp_path / "out")] == list(range(20))
