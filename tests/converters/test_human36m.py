"""Human3.6M: its official files, mmpose's npz with pictures, and VideoPose3D's npz of poses."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from source_files import (
    CENTRE,
    FOCAL,
    LENS,
    as_recorded,
    brightness,
    motion,
    shade,
    write_film,
    write_human36m,
    write_metadata,
    write_poses,
)

from jointdetr.converters.conversion import convert, make_converter
from jointdetr.converters.human36m import Human36mNpz, read_cameras
from jointdetr.converters.reading import Lens, fit_intrinsics, see
from jointdetr.converters.report import ConversionReport
from jointdetr.data.loading import load_pose_dataset
from jointdetr.formats.safe_pickle import load_pickle
from jointdetr.skeleton_jointdetr import HUMAN36M

INTRINSICS = np.array([[1100.0, 0, 510], [0, 1120, 490], [0, 0, 1]])


def converted(source: Path, output: Path, step: int | None = None, **settings: object) -> ConversionReport:
    converter = make_converter("human36m", source, step=step)
    return convert(converter, output, **settings)


def seen_by_human36m(joints: np.ndarray) -> np.ndarray:
    """Projection `(joints, 2)` as Human3.6M's own code has it, joint by joint."""
    k1, k2, k3, p1, p2 = LENS
    points = []
    for x, y, z in joints:
        u, v = x / z, y / z
        r2 = u * u + v * v
        gain = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * v + p2 * u
        points.append((FOCAL[0] * (u * gain + p2 * r2) + CENTRE[0], FOCAL[1] * (v * gain + p1 * r2) + CENTRE[1]))
    return np.array(points)


class TestOfficial:
    def test_poses_films_and_cameras_become_rows(self, tmp_path):
        joints = write_human36m(tmp_path / "source")
        report = converted(tmp_path / "source", tmp_path / "out")
        assert report.rows == {"test": 2, "train": 14}  # every 64th and every fifth of 70
        assert report.reprojection_px["max"] < 0.5
        rows = load_pose_dataset(tmp_path / "out", "train")
        assert rows["frame"][:] == list(range(0, 70, 5))
        row = rows[7]
        np.testing.assert_allclose(row["joints_3d"], joints["S1"][35], atol=0.01)
        np.testing.assert_allclose(row["joints_2d"], seen_by_human36m(joints["S1"][35]), atol=0.01)
        assert brightness(row["image"]) == pytest.approx(shade(35), abs=6)
        assert row["image"].size == (1000, 1002)
        assert (row["subject"], row["action"], row["camera"]) == ("S1", "WalkDog_1", "54138969")
        projected = np.array(row["joints_3d"]) @ np.array(row["intrinsics"]).T
        assert np.abs(projected[:, :2] / projected[:, 2:] - row["joints_2d"]).max() < 2.0  # px
        assert load_pose_dataset(tmp_path / "out", "test")["frame"][:] == [0, 64]

    def test_positions_in_the_room_are_turned_into_the_cameras_axes(self, tmp_path):
        source = tmp_path / "source"
        source.mkdir()
        placed = write_metadata(source / "metadata.xml")[1, 4]  # the second camera, S5
        (a, b, c), position = placed[:3], placed[3:]
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        rotation = about_x @ about_y @ about_z  # camera = rotation (room - position)
        np.testing.assert_allclose(
            read_cameras(source / "metadata.xml")["S5", "55011271"].rotation, rotation, atol=1e-6
        )
        joints = motion(10, (0, 100, 5000))
        room = joints @ rotation + position
        write_poses(source / "S5" / "Poses_D3_Positions" / "Sitting.cdf", as_recorded(room))
        write_film(source / "S5" / "Videos" / "Sitting.55011271.mp4", 10, (1000, 1000))
        report = converted(source, tmp_path / "out")
        assert report.rows == {"train": 2}
        assert sorted(report.failed) == [f"train-S5_Sitting.{name}" for name in ("54138969", "58860488", "60457274")]
        assert "Sitting.54138969.mp4 is missing" in report.failed["train-S5_Sitting.54138969"]
        row = load_pose_dataset(tmp_path / "out")[1]
        np.testing.assert_allclose(row["joints_3d"], joints[5], atol=0.01)

    def test_a_film_that_ends_early_is_said(self, tmp_path):
        write_human36m(tmp_path / "source", film_frames=31)
        report = converted(tmp_path / "source", tmp_path / "out", split="train")
        assert report.rows == {"train": 7}
        (reason,) = report.skipped
        assert reason == "the film ends before its labels, or has broken frames"
        assert report.skipped[reason].count == 7
        assert (
            "WalkingDog 1.54138969.mp4 gave 7 frames of 14, the last was number 30"
            in report.skipped[reason].examples[0]
        )

    def test_a_truncated_film_keeps_what_can_be_read(self, tmp_path):
        write_human36m(tmp_path / "source")
        film = tmp_path / "source" / "S1" / "Videos" / "WalkingDog 1.54138969.mp4"
        write_film(film.with_suffix(".avi"), 70, (1000, 1002))  # an mp4 file without its end has no index
        content = film.with_suffix(".avi").read_bytes()
        film.write_bytes(content[: len(content) // 2])
        report = converted(tmp_path / "source", tmp_path / "out", split="train")
        assert 0 < report.rows["train"] < 14
        assert sum(refusals.count for refusals in report.skipped.values()) == 14 - report.rows["train"]
        film.write_bytes(content[:1000])
        report = converted(tmp_path / "source", tmp_path / "out2", split="train")
        assert film.name in report.failed["train-S1_WalkingDog_1.54138969"]

    def test_a_film_of_another_frame_rate_is_refused(self, tmp_path):
        write_human36m(tmp_path / "source", num_frames=30, film_frames=60)
        report = converted(tmp_path / "source", tmp_path / "out", split="train")
        assert "has 60 frames and 30 labels; another frame rate?" in report.failed["train-S1_WalkingDog_1.54138969"]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda pose: pose[:, :20], r"`Pose` must have the shape \(frames, 96\), got .*60\)"),
            (lambda pose: pose / 1000, "are these millimetres"),
            (lambda pose: pose - [0, 0, 5000], "behind the camera"),
            (lambda pose: pose * [np.nan, 1, 1], "NaN or infinity in `joints_3d`|no joint is labelled"),
        ],
    )
    def test_broken_poses_are_named(self, tmp_path, change, said):
        write_human36m(tmp_path / "source", num_frames=12)
        poses = tmp_path / "source" / "S1" / "MyPoseFeatures" / "D3_Positions_mono" / "WalkingDog 1.54138969.cdf"
        poses.unlink()
        write_poses(poses, change(as_recorded(motion(12, (0, 0, 5000)))))
        report = converted(tmp_path / "source", tmp_path / "out", split="train")
        with pytest.raises(ValueError, match=said):
            raise ValueError(report.failed["train-S1_WalkingDog_1.54138969"])
        assert str(poses) in report.failed["train-S1_WalkingDog_1.54138969"]
        poses.write_bytes(b"CDF?")
        report = converted(tmp_path / "source", tmp_path / "out", split="train")
        assert "expected a CDF file with a variable Pose" in report.failed["train-S1_WalkingDog_1.54138969"]

    def test_missing_and_broken_metadata_are_refused_at_once(self, tmp_path):
        write_human36m(tmp_path, num_frames=2)
        (tmp_path / "metadata.xml").write_text("<metadata><w0>[1 2 3]</w0></metadata>")
        with pytest.raises(ValueError, match="expected an element w0 of 300 numbers, got 3 words"):
            converted(tmp_path, tmp_path / "out")
        (tmp_path / "metadata.xml").unlink()
        with pytest.raises(ValueError, match=r"must hold metadata.xml"):
            converted(tmp_path, tmp_path / "out")


def write_npz(folder: Path, numbers: tuple[int, ...] = (1, 65), **changes: object) -> tuple[np.ndarray, np.ndarray]:
    """mmpose's files: joints `(pictures, 17, 4)` m and parts `(pictures, 17, 3)` px."""
    joints = np.ones((len(numbers), 17, 4))
    joints[..., :3] = motion(len(numbers), (100, 200, 5000)) / 1000
    parts = np.ones((len(numbers), 17, 3))
    homogeneous = joints[..., :3] @ INTRINSICS.T
    parts[..., :2] = homogeneous[..., :2] / homogeneous[..., 2:]
    joints[-1, 13, 3] = 0.0  # a wrist without a 3D label
    names = [f"S9/S9_Greeting_1.55011271/S9_Greeting_1.55011271_{number:06d}.jpg" for number in numbers]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1000, 1000)).save(folder / name)
    count = len(numbers)
    arrays = {"imgname": names, "center": [[500, 480]] * count, "scale": [1.5] * count, "part": parts, "S": joints}
    np.savez(folder / "labels.npz", **{**arrays, **changes})
    return joints, parts


class TestNpz:
    def test_metres_become_millimetres_and_scales_boxes(self, tmp_path):
        joints, parts = write_npz(tmp_path)
        assert converted(tmp_path, tmp_path / "out").rows == {"test": 2}
        rows = load_pose_dataset(tmp_path / "out", "test")
        np.testing.assert_allclose(rows[0]["joints_3d"], joints[0, :, :3] * 1000, rtol=1e-6)
        np.testing.assert_allclose(rows[0]["joints_2d"], parts[0, :, :2], rtol=1e-6)
        assert rows[1]["box"] == [350.0, 330.0, 300.0, 300.0]
        assert rows[0]["joints_3d_valid"] == [True] * 17
        assert [joint for joint, valid in enumerate(rows[1]["joints_3d_valid"]) if not valid] == [13]
        assert np.isnan(rows[1]["joints_3d"][13]).all()
        np.testing.assert_allclose(rows[1]["intrinsics"], INTRINSICS, rtol=1e-5)
        assert {name: rows[1][name] for name in ("subject", "action", "camera", "frame")} == {
            "subject": "S9",
            "action": "Greeting_1",
            "camera": "55011271",
            "frame": 64,  # pictures are numbered from 1
        }
        picture = tmp_path / "S9/S9_Greeting_1.55011271/S9_Greeting_1.55011271_000001.jpg"
        table = pq.read_table(tmp_path / "out" / "data" / "test-S9_Greeting_1.55011271.parquet")
        assert table["image"][0].as_py()["bytes"] == picture.read_bytes()

    def test_pictures_numbered_from_0_are_recognised(self, tmp_path):
        write_npz(tmp_path, (0, 64))
        converted(tmp_path / "labels.npz", tmp_path / "out")
        assert load_pose_dataset(tmp_path / "out", "test")["frame"][:] == [0, 64]

    def test_missing_pictures_and_frames_that_are_there_twice_are_said(self, tmp_path):
        write_npz(tmp_path, (1, 6, 6, 11, 16, 21))
        (tmp_path / "S9/S9_Greeting_1.55011271/S9_Greeting_1.55011271_000011.jpg").unlink()
        report = converted(tmp_path, tmp_path / "out")
        assert report.rows == {"test": 4}
        assert {reason: refusals.count for reason, refusals in report.skipped.items()} == {
            "the frame is there twice": 1,
            "the picture does not exist": 1,
        }
        assert f"{tmp_path / 'labels.npz'}, frame 5: " in report.skipped["the frame is there twice"].examples[0]
        assert not list(report.complaints())

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"S": np.ones((2, 16, 4))}, r"`S` of .*labels.npz must have the shape \(2, 17, 4\), got \(2, 16, 4\)"),
            ({"scale": np.ones(3)}, r"`scale` of .*labels.npz must have the shape \(2,\), got \(3,\)"),
            ({"imgname": np.array([{"a": 1}, None], dtype=object)}, "allow_pickle"),
        ],
    )
    def test_refuses_other_files(self, tmp_path, changes, said):
        write_npz(tmp_path, **changes)
        with pytest.raises(ValueError, match=said):
            converted(tmp_path, tmp_path / "out")

    def test_refuses_what_is_none_of_the_kinds(self, tmp_path):
        with pytest.raises(ValueError, match=r"must hold subjects such as S1 .* or one npz file; got \[\]"):
            converted(tmp_path, tmp_path / "out")
        np.savez(tmp_path / "labels.npz", S=np.ones((2, 17, 4)))
        with pytest.raises(ValueError, match=r"must have the array `imgname` .*, got \['S'\]"):
            converted(tmp_path, tmp_path / "out")
        (tmp_path / "labels.npz").write_bytes(b"no npz")
        with pytest.raises(ValueError, match="expected an npz file, got none"):
            converted(tmp_path, tmp_path / "out")

    def test_real_pictures_reproject(self, real_data, tmp_path):
        report = converted(real_data / "human36m", tmp_path)
        assert report.rows == {"train": 4}
        assert report.skipped == report.failed == {}
        rows = load_pose_dataset(tmp_path)
        assert sorted(zip(rows["subject"][:], rows["action"][:], rows["frame"][:], strict=True)) == [
            ("S1", "Directions_1", 0),
            ("S5", "SittingDown", 2060),
            ("S7", "Greeting", 395),
            ("S8", "WalkDog_1", 25),
        ]
        for row in rows:
            projected = np.array(row["joints_3d"]) @ np.array(row["intrinsics"]).T
            error = np.linalg.norm(projected[:, :2] / projected[:, 2:] - row["joints_2d"], axis=-1)
            assert error.max() < 3.0
            assert row["image"].width == 1000
            assert 1100 < row["intrinsics"][0][0] < 1200  # px, the true cameras have 1145
            assert row["joints_3d"][HUMAN36M.joints.index("left_hip")][2] > 2000  # mm


def test_the_lens_is_that_of_real_pictures(real_data):
    cameras = load_pickle(real_data / "human36m" / "cameras.pkl")
    with np.load(real_data / "human36m" / "test_h36m_body3d.npz") as file:
        pictures = list(zip(file["imgname"], file["S"][..., :3], file["part"][..., :2], strict=True))
    for name, joints, points in pictures:
        subject, film = name.split("/")[:2]
        camera = cameras[subject, film.partition(".")[2]]
        (focal_x, focal_y), (centre_x, centre_y) = camera["f"].ravel(), camera["c"].ravel()
        intrinsics = np.array([[focal_x, 0, centre_x], [0, focal_y, centre_y], [0, 0, 1]])
        lens = Lens(tuple(camera["k"].ravel()), tuple(camera["p"].ravel()), skew=1.0)
        seen, tangent = see(joints, intrinsics, lens)
        np.testing.assert_allclose(seen, points, atol=1e-3)  # px
        homogeneous = joints @ tangent.T
        assert np.abs(homogeneous[:, :2] / homogeneous[:, 2:] - points).max() < 2.0  # px


def test_fit_intrinsics_is_exact_without_noise():
    points = np.random.default_rng(1).normal(0, 1, (6, 3)) + [0, 0, 6]
    homogeneous = points @ INTRINSICS.T
    np.testing.assert_allclose(fit_intrinsics(points, homogeneous[:, :2] / homogeneous[:, 2:]), INTRINSICS, atol=1e-6)


def test_fit_intrinsics_refuses_points_in_one_column():
    points = np.array([[1.0, 0, 5], [1, 1, 5], [1, 2, 5]])
    with pytest.raises(ValueError, match="differ in x and in y"):
        fit_intrinsics(points, points[:, :2])


def test_a_picture_that_no_camera_fits_is_skipped(tmp_path):
    joints, _ = write_npz(tmp_path, (1, 6, 11, 16))
    joints[1, :, 3] = 0
    write_npz(tmp_path, (1, 6, 11, 16), S=joints)
    report = converted(tmp_path, tmp_path / "out")
    assert report.rows == {"test": 3}
    assert "frame 5: entry 1" in report.skipped["no camera can be fitted to the labels"].examples[0]
    assert Human36mNpz(tmp_path / "labels.npz", tmp_path).step is None


class TestSkeletons:
    def test_poses_stand_upright_relative_to_the_pelvis(self, tmp_path):
        joints = motion(12, (500, -900, 300))  # y down
        x, y, z = np.moveaxis(as_recorded(joints), -1, 0)
        room = np.stack([x, z, -y], axis=-1) / 1000  # m, z up
        positions = {"S1": {"Walking 1": room.astype(np.float32)}, "S11": {"WalkingDog": room[:6]}}
        np.savez_compressed(tmp_path / "data_3d_h36m.npz", positions_3d=positions)
        report = converted(tmp_path / "data_3d_h36m.npz", tmp_path / "out")
        assert report.rows == {"test": 2, "train": 3}
        rows = pq.read_table(tmp_path / "out" / "data" / "train-S1_Walking_1.parquet").to_pylist()
        assert [row["frame"] for row in rows] == [0, 5, 10]
        np.testing.assert_allclose(rows[2]["joints_3d"], joints[10] - joints[10, 0], atol=0.01)
        assert (rows[2]["subject"], rows[2]["action"], rows[2]["skeleton"]) == ("S1", "Walking_1", "human36m")

    def test_another_array_is_refused(self, tmp_path):
        np.savez(tmp_path / "a.npz", positions_3d={"S1": {"Walking": np.zeros((3, 20, 3))}})
        report = converted(tmp_path / "a.npz", tmp_path / "out")
        assert "S1, Walking must have the shape (frames, 32, 3), got (3, 20, 3)" in report.failed["train-S1_Walking"]
        np.savez(tmp_path / "a.npz", positions_3d=np.zeros((3, 32, 3)))
        with pytest.raises(ValueError, match="must be a dictionary of takes by subject, got ndarray"):
            converted(tmp_path / "a.npz", tmp_path / "out2")
