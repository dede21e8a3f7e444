"""Loading pose datasets and refusing what is none."""

import pickle
import subprocess
import sys

import datasets
import numpy as np
import pytest
from PIL import Image

from jointdetr.data.loading import check_rows, close_readers, load_pose_dataset
from jointdetr.data.schema import pose_features
from jointdetr.skeleton_jointdetr import HUMAN36M, MPI_INF_3DHP


@pytest.fixture(autouse=True)
def short_wait(monkeypatch):
    """`datasets` waits for threads of pyarrow, which only programs that end at once could want."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1)


@pytest.fixture
def rows() -> datasets.Dataset:
    row = {
        "image": Image.new("RGB", (16, 16)),
        "joints_3d": np.zeros((17, 3)),
        "joints_3d_valid": np.ones(17, bool),
        "joints_2d": np.zeros((17, 2)),
        "joints_2d_valid": np.ones(17, bool),
        "visible": np.ones(17, bool),
        "intrinsics": np.eye(3),
        "box": [0, 0, 16, 16],
        "skeleton": "human36m",
        "subject": "",
        "action": "",
        "camera": "",
    }
    return datasets.Dataset.from_list([{**row, "frame": frame} for frame in range(3)], features=pose_features())


def test_loads_a_saved_dataset_and_its_splits(rows, tmp_path):
    rows.save_to_disk(tmp_path / "one")
    assert len(load_pose_dataset(tmp_path / "one")) == 3
    with pytest.raises(ValueError, match=r"`split` must be one of \['train'\].*got 'test'"):
        load_pose_dataset(tmp_path / "one", split="test")
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "two")
    assert len(load_pose_dataset(tmp_path / "two", split="test")) == 1


def test_loads_parquet_as_file_folder_and_stream(rows, tmp_path):
    rows.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    for path in (tmp_path, tmp_path / "train-00000-of-00001.parquet"):
        loaded = load_pose_dataset(path)
        assert loaded.features == rows.features
        assert loaded["frame"][:] == [0, 1, 2]
    stream = load_pose_dataset(tmp_path, streaming=True)
    assert [row["frame"] for row in stream] == [0, 1, 2]


def test_refuses_missing_columns(rows, tmp_path):
    rows.remove_columns(["box", "visible"]).save_to_disk(tmp_path / "incomplete")
    with pytest.raises(ValueError, match=r"must have the columns \['box', 'visible'\] too"):
        load_pose_dataset(tmp_path / "incomplete")


def test_refuses_another_skeleton(rows):
    check_rows(rows, HUMAN36M)
    with pytest.raises(ValueError, match="skeleton must be 'mpi_inf_3dhp', got 'human36m'"):
        check_rows(rows, MPI_INF_3DHP)
    with pytest.raises(ValueError, match="at least one row"):
        check_rows(rows.select([]), HUMAN36M)


def test_a_folder_of_pictures_is_no_dataset(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="must hold a dataset in Parquet files, got .*a.png"):
        load_pose_dataset(tmp_path)


def test_folders_of_one_name_are_not_mixed_up(rows, tmp_path):
    files = "- config_name: default\n  data_files:\n  - split: test\n    path: data/test-*.parquet\n"
    for parent, count in (("a", 1), ("b", 2)):
        folder = tmp_path / parent / "out"
        (folder / "data").mkdir(parents=True)
        (folder / "README.md").write_text(f"---\nconfigs:\n{files}---\n")
        rows.select(range(count)).to_parquet(folder / "data" / "test-0.parquet")
        assert len(load_pose_dataset(folder, "test")) == count
    rows.to_parquet(folder / "data" / "test-1.parquet")
    assert len(load_pose_dataset(folder, "test")) == 5  # files that came later are seen
    with pytest.raises(ValueError, match=r"`split` must be one of \['test'\] for"):
        load_pose_dataset(folder, "train")


def test_a_shuffled_stream_keeps_labels_with_their_rows(rows, tmp_path):
    numbered = rows.select([0] * 12).map(
        lambda row, number: {
            "frame": number,
            "joints_3d": np.full((17, 3), number),
            "joints_2d": np.full((17, 2), number),
            "intrinsics": np.full((3, 3), number),
        },
        with_indices=True,
    )
    numbered.to_parquet(tmp_path / "train-0.parquet", batch_size=5)
    stream = load_pose_dataset(tmp_path, streaming=True)
    for source in (stream, stream.reshard(), numbered.to_iterable_dataset(num_shards=2)):
        shuffled = list(source.shuffle(seed=0, buffer_size=4))
        assert sorted(row["frame"] for row in shuffled) == list(range(12))
        for row in shuffled:
            for name in ("joints_3d", "joints_2d", "intrinsics"):
                assert np.unique(row[name]).tolist() == [row["frame"]]


def test_a_program_that_leaves_a_stream_in_the_middle_ends(rows, tmp_path):
    rows.select([0] * 400).to_parquet(tmp_path / "train-0.parquet", batch_size=10)
    program = (
        "from jointdetr.data.loading import load_pose_dataset\n"
        f"stream = iter(load_pose_dataset({str(tmp_path)!r}, streaming=True))\n"
        "for _ in range(15): row = next(stream)\n"
        "print(row['skeleton'])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (0, "human36m\n"), ended.stderr


def test_only_the_streams_of_the_package_are_closed_when_python_ends(rows, tmp_path):
    rows.select([0] * 40).to_parquet(tmp_path / "train-0.parquet", batch_size=10)
    own = load_pose_dataset(tmp_path, streaming=True)
    shuffled = iter(own.shuffle(seed=0, buffer_size=2))
    other = iter(datasets.load_dataset("parquet", data_files=str(tmp_path / "train-0.parquet"))["train"])
    theirs = iter(datasets.load_dataset("parquet", data_files=str(tmp_path / "*"), split="train", streaming=True))
    streams = [iter(own), shuffled, other, theirs]
    for stream in streams:
        next(stream)
    close_readers()
    left = [len(list(stream)) for stream in streams]
    assert left[0] < 39 and left[1] < 39  # no more than what had been read
    assert left[2:] == [39, 39]
    again = pickle.loads(pickle.dumps(own))  # as for the workers of a loader
    assert len(list(again)) == 40


def test_a_folder_with_two_datasets_is_refused(tmp_path):
    rows = datasets.Dataset.from_list([{"a": 1}])
    rows.save_to_disk(tmp_path / "mine")
    (tmp_path / "mine" / "data").mkdir()
    rows.to_parquet(tmp_path / "mine" / "data" / "train.parquet")
    with pytest.raises(ValueError, match="must hold one dataset"):
        load_pose_dataset(tmp_path / "mine")
