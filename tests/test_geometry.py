"""Projection, crops, mirroring, Procrustes and the root's translation, against hand answers and scipy."""

import pickle

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch

from jointdetr import geometry_jointdetr as geometry
from jointdetr.skeleton_jointdetr import HUMAN36M, SKELETONS

INTRINSICS = torch.tensor([[1145.0, 0.0, 512.5], [0.0, 1143.8, 515.5], [0.0, 0.0, 1.0]], dtype=torch.float64)


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
    points = geometry.project(torch.tensor([[100.0, -200.0, 2000.0]]).double(), INTRINSICS)
    torch.testing.assert_close(points, torch.tensor([[512.5 + 57.25, 515.5 - 114.38]]).double())


def test_back_project_undoes_project_for_any_intrinsics():
    joints, roots = make_people(2, 3)
    joints = joints + roots[..., None, :]
    skewed = geometry.crop_intrinsics(INTRINSICS, make_affine(2, 3))
    points = geometry.project(joints, skewed)
    torch.testing.assert_close(geometry.back_project(points, joints[..., 2], skewed), joints)


def test_affine_maps_compose_and_invert():
    outer, inner = make_affine(4), make_affine(4)
    points = torch.randn(4, 6, 2, dtype=torch.float64) * 100
    composed = geometry.apply_affine(points, geometry.compose_affine(outer, inner))
    torch.testing.assert_close(composed, geometry.apply_affine(geometry.apply_affine(points, inner), outer))
    there_and_back = geometry.apply_affine(geometry.apply_affine(points, inner), geometry.invert_affine(inner))
    torch.testing.assert_close(there_and_back, points)


def test_crop_intrinsics_project_into_the_crop():
    joints, roots = make_people(5)
    affine = make_affine(5)
    points = geometry.project(joints + roots[:, None], INTRINSICS)
    cropped = geometry.project(joints + roots[:, None], geometry.crop_intrinsics(INTRINSICS, affine))
    torch.testing.assert_close(cropped, geometry.apply_affine(points, affine))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_flip_mirrors_positions_and_trades_names(skeleton):
    joints = torch.randn(3, len(skeleton.joints), 3)
    flipped = geometry.flip_joints(joints, skeleton.flip_pairs)
    left, right = skeleton.joints.index("left_wrist"), skeleton.joints.index("right_wrist")
    torch.testing.assert_close(flipped[:, left], joints[:, right] * torch.tensor([-1.0, 1.0, 1.0]))
    torch.testing.assert_close(geometry.flip_joints(flipped, skeleton.flip_pairs), joints)


def test_flipped_joints_project_to_flipped_points():
    joints, roots = make_people(2)
    joints = joints + roots[:, None]
    skewed = INTRINSICS.clone()
    skewed[0, 1] = 3.0
    expected = geometry.flip_joints(geometry.project(joints, skewed), HUMAN36M.flip_pairs, width=1000.0)
    flipped = geometry.flip_joints(joints, HUMAN36M.flip_pairs)
    actual = geometry.project(flipped, geometry.flip_intrinsics(skewed, width_px=1000.0))
    torch.testing.assert_close(actual, expected)


def test_autocast_rounds_nothing():
    joints, roots = (tensor.float() for tensor in make_people(4))
    matrix, affine, other = INTRINSICS.float(), make_affine().float(), make_affine().float()
    placed = joints + roots[:, None]
    points = geometry.project(placed, matrix)
    calls = {
        "project": (placed, matrix),
        "back_project": (points, placed[..., 2], matrix),
        "apply_affine": (points, affine),
        "compose_affine": (affine, other),
        "invert_affine": (affine,),
        "crop_intrinsics": (matrix, affine),
        "procrustes_align": (joints + torch.randn_like(joints) * 50, joints),
        "solve_root_translation": (joints, points, matrix),
    }
    for name, arguments in calls.items():
        expected = getattr(geometry, name)(*arguments)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(getattr(geometry, name)(*arguments), expected), name


def test_procrustes_undoes_a_similarity():
    target, _ = make_people(4)
    moved = 1.7 * target @ make_rotation() + torch.tensor([10.0, 20.0, 30.0])
    torch.testing.assert_close(geometry.procrustes_align(moved, target), target, atol=1e-9, rtol=0)


def test_procrustes_equals_scipy_where_no_reflection_is_better():
    target, _ = make_people()
    predicted = target @ make_rotation() + torch.randn(17, 3) * 80
    aligned = geometry.procrustes_align(predicted, target)
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
    aligned = geometry.procrustes_align(mirrored, target)
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
    torch.testing.assert_close(geometry.procrustes_align(moved, spoilt, valid), target, atol=1e-9, rtol=0)


def test_procrustes_of_a_single_point_is_the_targets_mean():
    target, _ = make_people(dtype=torch.float32)
    aligned = geometry.procrustes_align(torch.zeros(17, 3), target)
    torch.testing.assert_close(aligned, target.mean(dim=0).expand(17, 3))


def test_procrustes_has_gradients():
    predicted = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 6, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda joints: geometry.procrustes_align(joints, target), predicted)


def test_root_translation_is_exact_also_in_crops():
    joints, roots = make_people(3, 4)
    affine = make_affine(3, 4)
    points = geometry.project(joints + roots[..., None, :], INTRINSICS)
    cameras = geometry.crop_intrinsics(INTRINSICS, affine)
    cropped = geometry.apply_affine(points, affine)
    weights = torch.rand(3, 4, 17, dtype=torch.float64) + 0.1
    assert (geometry.solve_root_translation(joints, points, INTRINSICS) - roots).abs().max() < 1e-6
    assert (geometry.solve_root_translation(joints, cropped, cameras, weights) - roots).abs().max() < 1e-6
    single = geometry.solve_root_translation(joints.float(), points.float(), INTRINSICS.float())
    assert single.dtype == torch.float32
    assert (single - roots).abs().max() < 0.1


def test_root_translation_leaves_unweighted_joints_out():
    joints, roots = make_people()
    points = geometry.project(joints + roots, INTRINSICS)
    weights = torch.ones(17).double()
    weights[4:] = 0
    joints[4:10], points[6:] = torch.nan, 1e6
    assert (geometry.solve_root_translation(joints, points, INTRINSICS, weights) - roots).abs().max() < 1e-6


def test_root_translation_minimises_the_weighted_error():
    joints, roots = make_people()
    points = geometry.project(joints + roots, INTRINSICS) + torch.randn(17, 2) * 5
    weights = torch.rand(17).double()

    def cost(translation: torch.Tensor) -> torch.Tensor:
        x, y, z = (joints + translation).unbind(-1)
        u, v = (points - INTRINSICS[:2, 2]).unbind(-1)
        errors = (x * INTRINSICS[0, 0] - u * z) ** 2 + (y * INTRINSICS[1, 1] - v * z) ** 2
        return (weights * errors).sum()

    solved = geometry.solve_root_translation(joints, points, INTRINSICS, weights).requires_grad_()
    (gradient,) = torch.autograd.grad(cost(solved), solved)
    (elsewhere,) = torch.autograd.grad(cost(solved + 1.0), solved)
    assert gradient.norm() < 1e-8 * elsewhere.norm()


def test_the_robust_root_translation_is_as_exact_as_the_plain_one():
    joints, roots = make_people(3, 4)
    points = geometry.project(joints + roots[..., None, :], INTRINSICS)
    weights = torch.rand(3, 4, 17).double() + 0.1
    solved = geometry.solve_root_translation(joints, points, INTRINSICS, weights, robust=True)
    assert (solved - roots).abs().max() < 1e-6


def test_the_robust_root_translation_withstands_outliers():
    joints, roots = make_people(200)
    points = geometry.project(joints + roots[:, None], INTRINSICS)
    noisy = points + torch.randn_like(points) * 3
    spoilt = noisy.clone()
    spoilt[:, [3, 9, 13]] += torch.randn(200, 3, 2).double() * 150

    def error(points: torch.Tensor, robust: bool) -> float:
        solved = geometry.solve_root_translation(joints, points, INTRINSICS, robust=robust)
        return (solved - roots).norm(dim=-1).mean().item()

    assert error(spoilt, robust=True) < 0.3 * error(spoilt, robust=False)
    assert error(noisy, robust=True) < 1.15 * error(noisy, robust=False)  # what robustness costs without outliers


def test_root_translation_is_nan_where_all_points_coincide():
    joints, roots = make_people(2)
    points = geometry.project(joints + roots[:, None], INTRINSICS)
    points[0] = points[0, :1]
    for robust in (False, True):
        solved = geometry.solve_root_translation(joints, points, INTRINSICS, robust=robust)
        assert solved[0].isnan().all()
        assert (solved[1] - roots[1]).abs().max() < 1e-6


def test_root_translation_refuses_too_few_joints_and_singular_intrinsics():
    joints, roots = make_people()
    points = geometry.project(joints + roots, INTRINSICS)
    weights = torch.zeros(17)
    weights[3] = 1
    with pytest.raises(ValueError, match="at least 2 joints"):
        geometry.solve_root_translation(joints, points, INTRINSICS, weights)
    weights[4:6] = 1
    joints[4, 1] = torch.nan
    with pytest.raises(ValueError, match="finite where their weight is positive"):
        geometry.solve_root_translation(joints, points, INTRINSICS, weights)
    joints[4, 1] = 0.0
    for spoilt in (INTRINSICS * torch.tensor([1.0, 0.0, 1.0]), INTRINSICS * torch.nan):
        with pytest.raises(ValueError, match="`intrinsics` must be invertible"):
            geometry.solve_root_translation(joints, points, spoilt)
        with pytest.raises(ValueError, match="`intrinsics` must be invertible"):
            geometry.back_project(points, joints[:, 2], spoilt)


def test_a_singular_affine_is_refused():
    with pytest.raises(ValueError, match="`affine` must be invertible"):
        geometry.invert_affine(torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 1.0]]))


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
        root = geometry.solve_root_translation(relative, points_px, intrinsics)
        assert (root - joints_camera[0])[:2].norm() < 5
        assert (root - joints_camera[0])[2].abs() < 0.02 * joints_camera[0, 2]
