"""MPI-INF-3DHP: its official training and test files, and mmpose's npz with pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from source_files import (
    MPI_INTRINSICS,
    brightness,
    mpi_motion,
    mpi_points,
    shade,
    write_film,
    write_mpi_test,
    write_mpi_training,
)

from jointdetr.converters.conversion import convert, make_converter
from jointdetr.converters.mpi_inf_3dhp import put_at_common_size, read_calibration
from jointdetr.converters.report import ConversionReport
from jointdetr.data.loading import load_pose_dataset
from jointdetr.skeleton_jointdetr import MPI_INF_3DHP


def converted(source: Path, output: Path, step: int | None = None, labels: str | None = None) -> ConversionReport:
    converter = make_converter("mpi-inf-3dhp", source, step=step, labels=labels)
    return convert(converter, output)


class TestTraining:
    def test_labels_films_and_cameras_become_rows(self, tmp_path):
        write_mpi_training(tmp_path / "source" / "S3" / "Seq2")
        report = converted(tmp_path / "source", tmp_path / "out")
        assert report.rows == {"train": 8}  # every fifth of 20, of two cameras
        assert report.reprojection_px["max"] < 0.01
        rows = load_pose_dataset(tmp_path / "out")
        assert rows["frame"][:] == 2 * [0, 5, 10, 15]
        row = rows[5]
        joints = mpi_motion(20, (180, 50, 4000))[5]
        np.testing.assert_allclose(row["joints_3d"], joints, atol=0.01)
        small = MPI_INTRINSICS * [[0.25], [0.25], [1]]
        np.testing.assert_allclose(row["joints_2d"], mpi_points(joints, small), atol=0.01)
        np.testing.assert_allclose(row["intrinsics"], small, rtol=1e-6)
        assert brightness(row["image"]) == pytest.approx(shade(5), abs=6)
        assert {name: row[name] for name in ("subject", "action", "camera", "skeleton")} == {
            "subject": "S3",
            "action": "Seq2",
            "camera": "8",
            "skeleton": "mpi_inf_3dhp",
        }

    def test_missing_films_are_named_and_the_others_converted(self, tmp_path):
        write_mpi_training(tmp_path / "train" / "S1" / "Seq1")
        report = converted(tmp_path, tmp_path / "out")
        assert sorted(report.failed) == [f"train-S1_Seq1_{camera}" for camera in (1, 2, 4, 5, 6, 7)]
        film = tmp_path / "train" / "S1" / "Seq1" / "imageSequence" / "video_4.avi"
        assert f"the film {film} is missing" in report.failed["train-S1_Seq1_4"]
        (complaint,) = report.complaints()
        assert "6 recordings failed, the others are converted" in complaint

    def test_labels_of_the_common_size_look_the_same(self, tmp_path):
        write_mpi_training(tmp_path / "S1" / "Seq1", cameras=(0,))
        report = converted(tmp_path, tmp_path / "out", labels="univ_annot3")
        assert report.reprojection_px["max"] < 0.01
        row = load_pose_dataset(tmp_path / "out")[1]
        np.testing.assert_allclose(row["joints_3d"], 0.9 * mpi_motion(20, (100, 50, 4000))[5], atol=0.01)
        with pytest.raises(ValueError, match="`labels` must be one of annot3, univ_annot3, got 'annot'"):
            converted(tmp_path, tmp_path / "out2", labels="annot")

    def test_a_film_that_ends_early_is_said(self, tmp_path):
        folder = tmp_path / "S1" / "Seq1"
        write_mpi_training(folder, cameras=(0,))
        write_film(folder / "imageSequence" / "video_0.avi", 12, (512, 512), rate=25)
        report = converted(tmp_path, tmp_path / "out")
        assert report.rows == {"train": 3}
        (refusals,) = report.skipped.values()
        assert refusals.count == 1
        assert "video_0.avi gave 3 frames of 4, the last was number 10" in refusals.examples[0]

    def test_labels_of_another_shape_are_refused(self, tmp_path):
        cells = np.empty((14, 1), dtype=object)
        for camera in range(14):
            cells[camera, 0] = np.zeros((20, 51))
        write_mpi_training(tmp_path / "S1" / "Seq1", cameras=(), annot3=cells)
        failure = converted(tmp_path, tmp_path / "out").failed["train-S1_Seq1_0"]
        assert "annot.mat, camera 0, must have the shape (None, 84), got (20, 51)" in failure
        write_mpi_training(tmp_path / "S1" / "Seq1", cameras=(), annot2=np.zeros((14, 1)))
        failure = converted(tmp_path, tmp_path / "out").failed["train-S1_Seq1_0"]
        assert "`annot2` of" in failure and "annot.mat, camera 0, must have the shape (None, 56), got ()" in failure

    def test_broken_files_are_named(self, tmp_path):
        folder = tmp_path / "S1" / "Seq1"
        write_mpi_training(folder, cameras=(0,))
        content = (folder / "annot.mat").read_bytes()
        (folder / "annot.mat").write_bytes(content[:2000])
        report = converted(tmp_path, tmp_path / "out")
        assert f"{folder / 'annot.mat'}: expected a MAT file" in report.failed["train-S1_Seq1_0"]
        (folder / "annot.mat").write_bytes(content)
        calibration = (folder / "camera.calibration").read_text()
        (folder / "camera.calibration").write_text(calibration.replace("radial      0", "radial      0.1 2", 1))
        with pytest.raises(ValueError, match=r"camera.calibration, line 8: .*radial.*lenses are not read"):
            read_calibration(folder / "camera.calibration")
        (folder / "camera.calibration").write_text(calibration[:600])
        with pytest.raises(ValueError, match=r"camera.calibration.* (are missing|expected a camera's)"):
            read_calibration(folder / "camera.calibration")


class TestTest:
    def test_valid_frames_have_labels_of_the_common_size(self, tmp_path):
        joints = write_mpi_test(tmp_path / "mpi_inf_3dhp_test_set" / "TS2")
        report = converted(tmp_path, tmp_path / "out")
        assert report.rows == {"test": 11}
        assert report.skipped["the data set says that the frame is not valid"].count == 1
        assert report.reprojection_px["max"] < 0.05
        rows = load_pose_dataset(tmp_path / "out", "test")
        row = rows[2]
        assert row["frame"] == 3
        np.testing.assert_allclose(row["joints_3d"], 0.9 * joints[3], atol=0.1)
        np.testing.assert_allclose(row["intrinsics"], MPI_INTRINSICS, atol=0.1)
        assert brightness(row["image"]) == pytest.approx(shade(3), abs=2)
        assert (row["subject"], row["action"]) == ("TS2", "Sit on Chair")
        converted(tmp_path, tmp_path / "true", labels="annot3")
        np.testing.assert_allclose(load_pose_dataset(tmp_path / "true", "test")[2]["joints_3d"], joints[3], atol=0.01)

    def test_pictures_that_count_from_0_are_recognised(self, tmp_path):
        write_mpi_test(tmp_path / "TS1", first=0)
        assert converted(tmp_path, tmp_path / "out").rows == {"test": 11}
        row = load_pose_dataset(tmp_path / "out", "test")[2]
        assert row["frame"] == 3
        assert brightness(row["image"]) == pytest.approx(shade(3), abs=2)

    def test_missing_pictures_are_said(self, tmp_path):
        write_mpi_test(tmp_path / "TS1")
        (tmp_path / "TS1" / "imageSequence" / "img_000005.jpg").unlink()
        report = converted(tmp_path, tmp_path / "out")
        assert report.rows == {"test": 10}
        assert "frame 4: " in report.skipped["the picture does not exist"].examples[0]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"annot3": np.zeros((12, 17, 3))},
                r"`annot3` of .* must have the shape \(12, 1, 17, 3\), got",
            ),
            ({"univ_annot3": None}, r"\['univ_annot3'\] are missing"),
        ],
    )
    def test_other_files_are_refused(self, tmp_path, changes, said):
        write_mpi_test(tmp_path / "TS1", **changes)
        report = converted(tmp_path, tmp_path / "out")
        with pytest.raises(ValueError, match=said):
            raise ValueError(report.failed["test-TS1"])
        (tmp_path / "TS1" / "annot_data.mat").write_bytes(b"MATLAB 7.3")
        report = converted(tmp_path, tmp_path / "out")
        assert "annot_data.mat: expected an HDF5 MAT file" in report.failed["test-TS1"]

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"must hold S\*/Seq\*/annot.mat, TS\*/annot_data.mat"):
            converted(tmp_path, tmp_path / "out")


def test_the_common_size_keeps_the_look():
    true = mpi_motion(3)
    common = 1.2 * (true - true[:, 14:15]) + [1.0, 2.0, 3.0]
    placed = put_at_common_size(common, true)
    np.testing.assert_allclose(placed, 1.2 * true)
    np.testing.assert_allclose(mpi_points(placed), mpi_points(true))
    assert MPI_INF_3DHP.root == 14


def test_mmposes_npz_is_read(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    names = ["S1_Seq1_Cam0_000001.jpg", "S1_Seq1_Cam0_000002.jpg", "TS6_000010.jpg"]
    for name in names:
        Image.new("RGB", (2048, 2048)).save(tmp_path / "images" / name)
    joints, parts = np.ones((3, 17, 4)), np.ones((3, 17, 3))
    joints[..., :3] = mpi_motion(3) / 1000
    parts[..., :2] = mpi_points(mpi_motion(3))
    file = tmp_path / "annotations" / "mpi_inf_3dhp_train.npz"
    arrays = {"center": np.full((3, 2), 1000.0), "scale": np.ones(3), "part": parts, "S": joints}
    np.savez(file, imgname=names, **arrays)
    assert converted(file, tmp_path / "out").rows == {"test": 1, "train": 2}
    row = load_pose_dataset(tmp_path / "out", "train")[1]
    assert (row["subject"], row["action"], row["camera"], row["frame"]) == ("S1", "Seq1", "0", 1)
    np.testing.assert_allclose(row["joints_3d"], mpi_motion(3)[1], rtol=1e-5)
    assert load_pose_dataset(tmp_path / "out", "test")[0]["frame"] == 9
    np.savez(file, imgname=["a.jpg", *names[1:]], **arrays)
    with pytest.raises(ValueError, match="expected pictures such as S1_Seq1_Cam0_000001.jpg, got 'a.jpg'"):
        converted(file, tmp_path / "out2")
