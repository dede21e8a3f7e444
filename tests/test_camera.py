"""Cameras, checked against OpenCV; projection, mirroring, Procrustes and the root's translation, against scipy."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch

from jointdetr import camera_jointdetr
from jointdetr.camera_jointdetr import (
    Camera,
    Distortion,
    apply_affine,
    camera_of_picture,
    crop_intrinsics,
    flip_joints,
    procrustes_align,
    project,
    solve_root_translation,
)
from jointdetr.skeleton_jointdetr import SKELETONS

INTRINSICS = np.array([[1000.0, 0.0, 640.0], [0.0, 1010.0, 360.0], [0.0, 0.0, 1.0]])
LENSES = {
    "brown": Distortion("brown", (-0.28, 0.07, 0.001, -0.002, 0.01)),
    "rational": Distortion("brown", (0.3, -0.1, 0.001, -0.002, 0.01, 0.5, -0.05, 0.02)),
    "fisheye": Distortion("fisheye", (0.02, -0.01, 0.003, -0.001)),
}
QUARTER_TURN = [[0.0, -1.0, 0.0, 100.0], [1.0, 0.0, 0.0, -200.0], [0.0, 0.0, 1.0, 3000.0]]


def make_points() -> np.ndarray:
    """Points in space that such a camera sees, `(points, 3)` mm."""
    return np.random.default_rng(0).uniform([-1200, -700, 2000], [1200, 700, 4000], (40, 3))


@pytest.mark.parametrize("name", LENSES)
def test_lenses_are_those_of_opencv(name):
    camera = Camera(INTRINSICS, LENSES[name])
    project_cv = cv2.fisheye.projectPoints if name == "fisheye" else cv2.projectPoints
    coefficients = np.array(LENSES[name].coefficients)
    seen = project_cv(make_points()[:, None], np.zeros(3), np.zeros(3), INTRINSICS, coefficients)[0][:, 0]
    ideal = project(torch.from_numpy(make_points()), torch.from_numpy(INTRINSICS))
    assert np.abs(seen - ideal.numpy()).max() > 3  # these lenses do something
    torch.testing.assert_close(camera.distort(ideal), torch.from_numpy(seen), rtol=0, atol=1e-6)
    torch.testing.assert_close(camera.undistort(torch.from_numpy(seen)), ideal, rtol=0, atol=1e-4)


def test_points_that_no_ray_reaches_are_nan():
    camera = Camera(INTRINSICS, Distortion("brown", (-0.4, 0.0, 0.0, 0.0)))  # bends back at 0.913 focal lengths
    points = torch.tensor([[640.0, 360.0], [3000.0, 360.0], [torch.nan, 0.0]])
    assert camera.undistort(points).isfinite().all(dim=-1).tolist() == [True, False, False]
    assert camera.distort(points)[2].isnan().all()


def test_an_ideal_lens_needs_no_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    points = torch.rand(3, 5, 2)
    assert torch.equal(Camera(INTRINSICS).undistort(points), points)
    with pytest.raises(ImportError, match=r"pip install \"jointdetr\[camera\]\""):
        Camera(INTRINSICS, LENSES["brown"]).undistort(points)


def test_the_field_of_view_spans_the_longer_side():
    for size in ((1200, 800), (800, 1200)):
        camera = Camera.from_field_of_view(90, size)
        assert camera.guessed
        np.testing.assert_allclose(camera.intrinsics, [[600, 0, size[0] / 2], [0, 600, size[1] / 2], [0, 0, 1]])
    assert not Camera.from_focal_px(600, (1200, 800)).guessed


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, (True, 87)),  # nothing is known: a guess of 60 degrees
        ({"intrinsics": None, "field_of_view": None}, (True, 87)),
        ({"intrinsics": INTRINSICS, "field_of_view": 60}, (False, 1000)),  # a guess is only for who knows nothing
        ({"field_of_view": 90, "distortion": "fisheye:0,0,0,0"}, (True, 50)),
        ({"camera": Camera(INTRINSICS)}, (False, 1000)),
    ],
)
def test_a_camera_from_what_is_known(known, expected):
    camera = camera_of_picture((100, 80), known)
    assert (camera.guessed, round(camera.intrinsics[0, 0])) == expected


def test_a_camera_file(tmp_path: Path):
    path = tmp_path / "camera.json"
    lens = {"model": "brown", "coefficients": [-0.2, 0.1, 0, 0, 0.05]}
    extrinsics = [*QUARTER_TURN, [0, 0, 0, 1]]
    content = {"intrinsics": INTRINSICS.tolist(), "distortion": lens, "extrinsics": extrinsics}
    path.write_text(json.dumps(content))
    camera = camera_of_picture((1280, 720), {"camera": path})
    assert (
        camera.distortion
        == Distortion("brown", (-0.2, 0.1, 0, 0, 0.05))
        == Distortion.from_value("brown:-0.2,0.1,0,0,0.05")
    )
    assert camera.describe() == content | {"intrinsics_guessed": False, "extrinsics": QUARTER_TURN}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid"),
        ("[]", "expected `intrinsics`.*got list"),
        ('{"matrix": 1}', "expected `intrinsics`.*matrix"),
        ('{"intrinsics": [[1, 0], [0, 1]]}', "3x3"),
        ('{"intrinsics": [[NaN, 0, 0], [0, 1, 0], [0, 0, 1]]}', "finite"),
    ],
)
def test_a_bad_camera_file_is_named(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)bad.json.*{message}"):
        Camera.from_json(path)


def spoil(row: int, column: int, value: float) -> np.ndarray:
    matrix = INTRINSICS.copy()
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"intrinsics": spoil(0, 0, 0.0)}, "`intrinsics`.*positive focal lengths"),
        ({"intrinsics": spoil(1, 1, -5.0)}, "`intrinsics`.*positive focal lengths"),
        ({"intrinsics": spoil(1, 0, 5000.0) + spoil(0, 1, 5000.0) - INTRINSICS}, "`intrinsics`"),  # singular
        ({"intrinsics": spoil(0, 2, np.nan)}, "`intrinsics` must be finite"),
        ({"intrinsics": spoil(2, 2, 2.0)}, r"\[0, 0, 1\]"),
        ({"intrinsics": np.eye(4)}, "3x3"),
        ({"intrinsics": "K"}, "array of numbers"),
        ({"field_of_view": 0}, "between 0 and 180"),
        ({"field_of_view": float("nan")}, "between 0 and 180"),
        ({"field_of_view": "60"}, "a number between 0 and 180 degrees, got '60'"),
        ({"camera": INTRINSICS}, "a Camera or the path of its JSON file, got ndarray"),
        ({"distortion": LENSES["brown"]}, "must come with `intrinsics` or `field_of_view`"),
        ({"camera": Camera(INTRINSICS), "extrinsics": QUARTER_TURN}, "`camera` must be given alone"),
        ({"intrinsics": INTRINSICS, "extrinsics": np.eye(3)}, "`extrinsics` must be a finite 3x4"),
        ({"intrinsics": INTRINSICS, "extrinsics": 2 * np.array(QUARTER_TURN)}, "must begin with a rotation"),
        ({"intrinsics": INTRINSICS, "extrinsics": np.diag([1.0, 1, -1, 1])}, "must begin with a rotation"),  # mirrors
        ({"intrinsics": spoil(0, 1, 3.0), "distortion": LENSES["brown"]}, "no skew beside `distortion`"),
        ({"intrinsics": INTRINSICS, "distortion": "pinhole:1,2,3,4"}, "brown, fisheye, got 'pinhole'"),
        ({"intrinsics": INTRINSICS, "distortion": "fisheye:1,2,3"}, "must have 4 finite coefficients"),
        ({"intrinsics": INTRINSICS, "distortion": "brown:1,2,3,inf"}, "finite coefficients"),
        ({"intrinsics": INTRINSICS, "distortion": "brown:1,2,3,x"}, "could not convert"),
        ({"intrinsics": INTRINSICS, "distortion": {"model": "brown"}}, "`model` and its `coefficients`"),
    ],
)
def test_what_is_no_camera_is_refused(known: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        camera_of_picture((1280, 720), known)


MATRIX = torch.tensor([[1145.0, 0.0, 512.5], [0.0, 1143.8, 515.5], [0.0, 0.0, 1.0]], dtype=torch.float64)


def make_people(*batch: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Root-relative joints of the size of people, and roots a few metres before the camera."""
    joints = torch.randn(*batch, 17, 3, dtype=torch.float64) * 400
    joints -= joints[..., :1, :].clone()
    roots = torch.tensor([200.0, -100.0, 4500.0]) + torch.randn(*batch, 3, dtype=torch.float64) * 300
    return joints.to(dtype), roots.to(dtype)


def make_affine(*batch: int) -> torch.Tensor:
    """Random rotations, scales, shears and shifts."""
    return torch.cat([torch.eye(2) + torch.randn(*batch, 2, 2) * 0.4, torch.randn(*batch, 2, 1) * 50], -1).double()


def make_rotation() -> torch.Tensor:
    orthogonal = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    return orthogonal * torch.linalg.det(orthogonal).sign()


def test_project_a_known_point():
    points = project(torch.tensor([[100.0, -200.0, 2000.0]]).double(), MATRIX)
    torch.testing.assert_close(points, torch.tensor([[512.5 + 57.25, 515.5 - 114.38]]).double())


def test_crop_intrinsics_project_into_the_crop():
    joints, roots = make_people(5)
    affine = make_affine(5)
    points = project(joints + roots[:, None], MATRIX)
    cropped = project(joints + roots[:, None], crop_intrinsics(MATRIX, affine))
    torch.testing.assert_close(cropped, apply_affine(points, affine))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_flip_mirrors_positions_and_trades_names(skeleton):
    joints = torch.randn(3, len(skeleton.joints), 3)
    flipped = flip_joints(joints, skeleton.flip_pairs)
    left, right = skeleton.joints.index("left_wrist"), skeleton.joints.index("right_wrist")
    torch.testing.assert_close(flipped[:, left], joints[:, right] * torch.tensor([-1.0, 1.0, 1.0]))
    torch.testing.assert_close(flip_joints(flipped, skeleton.flip_pairs), joints)


def test_autocast_rounds_nothing():
    joints, roots = (tensor.float() for tensor in make_people(4))
    matrix, affine = MATRIX.float(), make_affine().float()
    placed = joints + roots[:, None]
    points = project(placed, matrix)
    calls = {
        "project": (placed, matrix),
        "apply_affine": (points, affine),
        "invert_affine": (affine,),
        "crop_intrinsics": (matrix, affine),
        "procrustes_align": (joints + torch.randn_like(joints) * 50, joints),
        "solve_root_translation": (joints, points, matrix),
    }
    for name, arguments in calls.items():
        expected = getattr(camera_jointdetr, name)(*arguments)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(getattr(camera_jointdetr, name)(*arguments), expected), name


def test_procrustes_undoes_a_similarity():
    target, _ = make_people(4)
    moved = 1.7 * target @ make_rotation() + torch.tensor([10.0, 20.0, 30.0])
    torch.testing.assert_close(procrustes_align(moved, target), target, atol=1e-9, rtol=0)


def test_procrustes_equals_scipy_where_no_reflection_is_better():
    target, _ = make_people()
    predicted = target @ make_rotation() + torch.randn(17, 3) * 80
    aligned = procrustes_align(predicted, target)
    scipy_target, scipy_aligned, _ = scipy.spatial.procrustes(target.numpy(), predicted.numpy())
    size = torch.linalg.norm(target - target.mean(dim=0))
    torch.testing.assert_close(aligned, torch.from_numpy(scipy_aligned) * size + target.mean(dim=0))
    torch.testing.assert_close(torch.from_numpy(scipy_target) * size + target.mean(dim=0), target)


def test_procrustes_never_reflects():
    target, _ = make_people()
    target = target - target.mean(dim=0)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0])
    reflection, _ = scipy.linalg.orthogonal_procrustes(mirrored.numpy(), target.numpy())
    assert scipy.linalg.det(reflection) < 0  # the best orthogonal matrix is the one that is not allowed
    aligned = procrustes_align(mirrored, target)
    map_found = torch.linalg.lstsq(mirrored, aligned).solution
    scale = torch.linalg.det(map_found).abs() ** (1 / 3)
    assert torch.linalg.det(map_found) > 0
    torch.testing.assert_close(map_found @ map_found.T / scale**2, torch.eye(3).double())
    error = torch.linalg.norm(aligned - target)
    assert error > 100
    for _ in range(200):  # no other rotation at its best scale does better
        rotated = mirrored @ make_rotation()
        best_scale = (rotated * target).sum() / rotated.square().sum()
        assert torch.linalg.norm(rotated * best_scale - target) > error - 1e-6


def test_procrustes_aligns_by_the_valid_joints_alone():
    target, _ = make_people(2)
    moved = 0.5 * target @ make_rotation() + 7.0
    valid = torch.ones(2, 17, dtype=torch.bool)
    valid[:, [3, 16]] = False
    spoilt = target.where(valid[..., None], torch.nan)
    torch.testing.assert_close(procrustes_align(moved, spoilt, valid), target, atol=1e-9, rtol=0)


def test_procrustes_of_a_single_point_is_the_targets_mean():
    target, _ = make_people(dtype=torch.float32)
    aligned = procrustes_align(torch.zeros(17, 3), target)
    torch.testing.assert_close(aligned, target.mean(dim=0).expand(17, 3))


def test_procrustes_has_gradients():
    predicted = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 6, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda joints: procrustes_align(joints, target), predicted)


def test_root_translation_is_exact_also_in_crops():
    joints, roots = make_people(3, 4)
    affine = make_affine(3, 4)
    points = project(joints + roots[..., None, :], MATRIX)
    cameras = crop_intrinsics(MATRIX, affine)
    cropped = apply_affine(points, affine)
    weights = torch.rand(3, 4, 17, dtype=torch.float64) + 0.1
    assert (solve_root_translation(joints, points, MATRIX) - roots).abs().max() < 1e-6
    assert (solve_root_translation(joints, cropped, cameras, weights) - roots).abs().max() < 1e-6
    single = solve_root_translation(joints.float(), points.float(), MATRIX.float())
    assert single.dtype == torch.float32
    assert (single - roots).abs().max() < 0.1


def test_root_translation_leaves_unweighted_joints_out():
    joints, roots = make_people()
    points = project(joints + roots, MATRIX)
    weights = torch.ones(17).double()
    weights[4:] = 0
    joints[4:10], points[6:] = torch.nan, 1e6
    assert (solve_root_translation(joints, points, MATRIX, weights) - roots).abs().max() < 1e-6


def test_root_translation_minimises_the_weighted_error():
    joints, roots = make_people()
    points = project(joints + roots, MATRIX) + torch.randn(17, 2) * 5
    weights = torch.rand(17).double()

    def cost(translation: torch.Tensor) -> torch.Tensor:
        x, y, z = (joints + translation).unbind(-1)
        u, v = (points - MATRIX[:2, 2]).unbind(-1)
        errors = (x * MATRIX[0, 0] - u * z) ** 2 + (y * MATRIX[1, 1] - v * z) ** 2
        return (weights * errors).sum()

    solved = solve_root_translation(joints, points, MATRIX, weights).requires_grad_()
    (gradient,) = torch.autograd.grad(cost(solved), solved)
    (elsewhere,) = torch.autograd.grad(cost(solved + 1.0), solved)
    assert gradient.norm() < 1e-8 * elsewhere.norm()


def test_the_robust_root_translation_is_as_exact_as_the_plain_one():
    joints, roots = make_people(3, 4)
    points = project(joints + roots[..., None, :], MATRIX)
    weights = torch.rand(3, 4, 17).double() + 0.1
    solved = solve_root_translation(joints, points, MATRIX, weights, robust=True)
    assert (solved - roots).abs().max() < 1e-6


def test_the_robust_root_translation_withstands_outliers():
    joints, roots = make_people(200)
    points = project(joints + roots[:, None], MATRIX)
    noisy = points + torch.randn_like(points) * 3
    spoilt = noisy.clone()
    spoilt[:, [3, 9, 13]] += torch.randn(200, 3, 2).double() * 150

    def error(points: torch.Tensor, robust: bool) -> float:
        solved = solve_root_translation(joints, points, MATRIX, robust=robust)
        return (solved - roots).norm(dim=-1).mean().item()

    assert error(spoilt, robust=True) < 0.3 * error(spoilt, robust=False)
    assert error(noisy, robust=True) < 1.15 * error(noisy, robust=False)  # what robustness costs without outliers


def test_root_translation_is_nan_where_all_points_coincide():
    joints, roots = make_people(2)
    points = project(joints + roots[:, None], MATRIX)
    points[0] = points[0, :1]
    for robust in (False, True):
        solved = solve_root_translation(joints, points, MATRIX, robust=robust)
        assert solved[0].isnan().all()
        assert (solved[1] - roots[1]).abs().max() < 1e-6


def test_root_translation_places_real_people(real_data):
    """Human3.6M's people stand where its camera-space joints say, up to the lens's distortion of about 2 px."""
    rows = np.load(real_data / "human36m" / "test_h36m_body3d.npz")
    cameras = pickle.loads((real_data / "human36m" / "cameras.pkl").read_bytes())
    for path, joints, points in zip(rows["imgname"], rows["S"], rows["part"], strict=True):
        camera = cameras[path.split("/")[0], path.split(".")[-2].split("_")[0]]
        intrinsics = torch.eye(3).double()
        intrinsics[[0, 1], [0, 1]] = torch.from_numpy(camera["f"].ravel())
        intrinsics[:2, 2] = torch.from_numpy(camera["c"].ravel())
        joints_camera = torch.from_numpy(joints[:, :3]) * 1000
        relative, points_px = joints_camera - joints_camera[:1], torch.from_numpy(points[:, :2])
        root = solve_root_translation(relative, points_px, intrinsics)
        assert (root - joints_camera[0])[:2].norm() < 5
        assert (root - joints_camera[0])[2].abs() < 0.02 * joints_camera[0, 2]
