"""Human3.6M in mmpose's files."""

import numpy as np
import pytest
import torch
from PIL import Image

from jointdetr.data.human36m import fit_intrinsics, read_human36m
from jointdetr.geometry_jointdetr import project
from jointdetr.skeleton_jointdetr import HUMAN36M

INTRINSICS = np.array([[1100.0, 0, 510], [0, 1120, 490], [0, 0, 1]])


def write_files(folder, **changes):
    rng = np.random.default_rng(0)
    joints = np.ones((2, 17, 4))
    joints[..., :3] = rng.normal(0, 0.4, (2, 17, 3)) + [0.1, 0.2, 5.0]
    parts = np.ones((2, 17, 3))
    homogeneous = joints[..., :3] @ INTRINSICS.T
    parts[..., :2] = homogeneous[..., :2] / homogeneous[..., 2:]
    joints[1, 13, 3] = 0.0  # a wrist without a 3D label
    names = [f"S9/S9_Greeting_1.55011271/S9_Greeting_1.55011271_{frame:06d}.jpg" for frame in (1, 64)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 100)).save(folder / name)
    arrays = {"imgname": names, "center": [[500, 480]] * 2, "scale": [2.0, 1.5], "part": parts, "S": joints}
    np.savez(folder / "labels.npz", **{**arrays, **changes})
    return joints, parts


def test_fit_intrinsics_is_exact_without_noise():
    points = np.random.default_rng(1).normal(0, 1, (6, 3)) + [0, 0, 6]
    homogeneous = points @ INTRINSICS.T
    np.testing.assert_allclose(fit_intrinsics(points, homogeneous[:, :2] / homogeneous[:, 2:]), INTRINSICS, atol=1e-6)


def test_fit_intrinsics_refuses_points_in_one_column():
    points = np.array([[1.0, 0, 5], [1, 1, 5], [1, 2, 5]])
    with pytest.raises(ValueError, match="differ in x and in y"):
        fit_intrinsics(points, points[:, :2])


def test_reads_metres_as_millimetres_and_boxes_by_scale(tmp_path):
    joints, parts = write_files(tmp_path)
    rows = read_human36m(tmp_path / "labels.npz", tmp_path)
    assert len(rows) == 2
    np.testing.assert_allclose(rows[0]["joints_3d"], joints[0, :, :3] * 1000, rtol=1e-6)
    np.testing.assert_allclose(rows[0]["joints_2d"], parts[0, :, :2], rtol=1e-6)
    assert rows[1]["box"] == [350.0, 330.0, 300.0, 300.0]
    assert rows[0]["joints_3d_valid"] == [True] * 17
    assert [joint for joint, valid in enumerate(rows[1]["joints_3d_valid"]) if not valid] == [13]
    np.testing.assert_allclose(rows[1]["intrinsics"], INTRINSICS, rtol=1e-5)
    assert {name: rows[1][name] for name in ("subject", "action", "camera", "frame")} == {
        "subject": "S9",
        "action": "Greeting_1",
        "camera": "55011271",
        "frame": 64,
    }
    assert len(read_human36m(tmp_path / "labels.npz", tmp_path, limit=1)) == 1


def test_refuses_other_files(tmp_path):
    write_files(tmp_path, S=np.ones((2, 16, 4)))
    with pytest.raises(ValueError, match=r"`S` .* must have the shape \(N, \*\(17, 4\)\), got \(2, 16, 4\)"):
        read_human36m(tmp_path / "labels.npz", tmp_path)
    write_files(tmp_path)
    with pytest.raises(ValueError, match="must exist"):
        read_human36m(tmp_path / "labels.npz", tmp_path / "elsewhere")
    np.savez(tmp_path / "labels.npz", S=np.ones((2, 17, 4)))
    with pytest.raises(ValueError, match="must have the keys"):
        read_human36m(tmp_path / "labels.npz", tmp_path)


def test_never_opens_pickled_arrays(tmp_path):
    write_files(tmp_path, imgname=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_human36m(tmp_path / "labels.npz", tmp_path)


def test_real_pictures_reproject(real_data):
    folder = real_data / "human36m"
    rows = read_human36m(folder / "test_h36m_body3d.npz", folder)
    assert len(rows) == 4
    for row in rows:
        joints, intrinsics = torch.tensor(row["joints_3d"]), torch.tensor(row["intrinsics"])
        error = (project(joints, intrinsics) - torch.tensor(row["joints_2d"])).norm(dim=-1)
        assert error.max() < 3.0
        assert row["image"].width == 1000
        assert 1100 < intrinsics[0, 0] < 1200  # px, the true cameras have 1145
        assert joints[HUMAN36M.joints.index("left_hip"), 2] > 2000  # mm
