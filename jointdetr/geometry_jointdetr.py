"""Projection, crops, mirroring and alignment: pure functions in torch, batched over any leading dimensions.

Camera axes are x right, y down, z forward, in millimetres. Image points are continuous pixel coordinates: pixel `i`
covers `[i, i + 1)`, its centre is `i + 0.5`, and a picture `width` pixels wide spans `[0, width]`. `intrinsics` is the
3x3 camera matrix in pixels, `affine` the two upper rows of a homogeneous 3x3 matrix that maps image points.

Shape vocabulary: `...` any batch dimensions, `joints` joints of a skeleton, `points` image points.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec

import torch

ROBUST_STEPS = 10
# Where the Cauchy loss turns, for 95% efficiency: at 2.385 standard deviations. Of a Gaussian in the plane the median
# length is 1.177 of them.
CAUCHY_SCALE = 2.026

Rest = ParamSpec("Rest")


def outside_autocast(
    function: Callable[Concatenate[torch.Tensor, Rest], torch.Tensor],
) -> Callable[Concatenate[torch.Tensor, Rest], torch.Tensor]:
    """Let a function compute in the precision of its arguments: autocast would round pixels and millimetres."""

    @functools.wraps(function)
    def run(first: torch.Tensor, *args: Rest.args, **kwargs: Rest.kwargs) -> torch.Tensor:
        device = first.device.type
        if not torch.is_autocast_enabled(device):  # asked first, as not every device knows autocast
            return function(first, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(first, *args, **kwargs)

    return run


@outside_autocast
def project(joints_camera: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """Project camera-space points onto the image.

    Args:
        joints_camera: `(..., joints, 3)` in mm, in front of the camera.
        intrinsics: `(..., 3, 3)` in px.

    Returns:
        `(..., joints, 2)` in px.
    """
    homogeneous = joints_camera @ intrinsics.transpose(-1, -2)  # (..., joints, 3)
    return homogeneous[..., :2] / homogeneous[..., 2:]


@outside_autocast
def back_project(points_px: torch.Tensor, depth_mm: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """Lift image points to the depth given for each.

    Args:
        points_px: `(..., points, 2)` in px.
        depth_mm: `(..., points)`, the z coordinate of each point in mm.
        intrinsics: `(..., 3, 3)` in px.

    Returns:
        `(..., points, 3)` camera-space points in mm.

    Raises:
        ValueError: The intrinsics are singular.
    """
    rays = to_homogeneous(points_px) @ _inverse(intrinsics, "intrinsics").transpose(-1, -2)  # (..., points, 3)
    return rays / rays[..., 2:] * depth_mm.unsqueeze(-1)


def to_homogeneous(points: torch.Tensor) -> torch.Tensor:
    """Append a one to each point: `(..., points, 2)` -> `(..., points, 3)`."""
    return torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)


@outside_autocast
def apply_affine(points: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Map image points: `(..., points, 2)` by `(..., 2, 3)` -> `(..., points, 2)`."""
    return points @ affine[..., :2].transpose(-1, -2) + affine[..., 2].unsqueeze(-2)


@outside_autocast
def compose_affine(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Return the `(..., 2, 3)` map that applies `inner` first and `outer` then."""
    linear = outer[..., :2] @ inner[..., :2]  # (..., 2, 2)
    offset = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]  # (..., 2, 1)
    return torch.cat([linear, offset], dim=-1)


@outside_autocast
def invert_affine(affine: torch.Tensor) -> torch.Tensor:
    """Return the `(..., 2, 3)` map that undoes `affine`; a singular one raises `ValueError`."""
    linear = _inverse(affine[..., :2], "affine")  # (..., 2, 2)
    return torch.cat([linear, -linear @ affine[..., 2:]], dim=-1)


@outside_autocast
def crop_intrinsics(intrinsics: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Carry intrinsics along with an affine map of the image, such as a crop, a resize or a rotation.

    Args:
        intrinsics: `(..., 3, 3)` in px of the original image.
        affine: `(..., 2, 3)`, original px -> new px.

    Returns:
        `(..., 3, 3)` with which `project` gives points in the new image; rotated crops give a full upper 2x2 block.
    """
    return torch.cat([affine @ intrinsics, intrinsics[..., 2:, :].expand(*affine.shape[:-2], 1, 3)], dim=-2)


def flip_permutation(flip_pairs: Sequence[tuple[int, int]], num_joints: int) -> list[int]:
    """Return, for each joint, the joint it trades places with under mirroring (itself if none)."""
    permutation = list(range(num_joints))
    for first, second in flip_pairs:
        permutation[first], permutation[second] = second, first
    return permutation


def flip_joints(joints: torch.Tensor, flip_pairs: Sequence[tuple[int, int]], width: float = 0.0) -> torch.Tensor:
    """Mirror joints left to right, trading the places of left and right joints.

    Args:
        joints: `(..., joints, 2)` image points or `(..., joints, 3)` positions.
        flip_pairs: Pairs of joint indices that trade places.
        width: Width of the picture for image points (1.0 for normalised ones), 0.0 for 3D positions.

    Returns:
        A tensor of the shape of `joints`.
    """
    flipped = joints[..., flip_permutation(flip_pairs, joints.shape[-2]), :]
    return torch.cat([width - flipped[..., :1], flipped[..., 1:]], dim=-1)


def flip_intrinsics(intrinsics: torch.Tensor, width_px: float) -> torch.Tensor:
    """Return the intrinsics `(..., 3, 3)` of a mirrored picture that shows a mirrored world."""
    flipped = intrinsics.clone()
    flipped[..., 0, 1] = -intrinsics[..., 0, 1]
    flipped[..., 0, 2] = width_px - intrinsics[..., 0, 2]
    return flipped


@outside_autocast
def procrustes_align(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Align predictions to targets by the best rotation, translation and scale, without reflection.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.

    Args:
        predicted: `(..., joints, 3)`.
        target: `(..., joints, 3)`.
        valid: `(..., joints)` bool, the joints that determine the alignment; all of them by default. Joints outside
            may be NaN in `target`.

    Returns:
        `(..., joints, 3)`, `predicted` transformed, with all its joints.
    """
    if valid is None:
        valid = torch.ones(predicted.shape[:-1], dtype=torch.bool, device=predicted.device)
    mask = valid.unsqueeze(-1)  # (..., joints, 1)
    count = mask.sum(dim=-2, keepdim=True).clamp(min=1)
    predicted_mean = predicted.where(mask, 0.0).sum(dim=-2, keepdim=True) / count  # (..., 1, 3)
    target_mean = target.where(mask, 0.0).sum(dim=-2, keepdim=True) / count
    predicted_centred = (predicted - predicted_mean).where(mask, 0.0)
    target_centred = (target - target_mean).where(mask, 0.0)

    u, singular, v_transposed = torch.linalg.svd(predicted_centred.transpose(-1, -2) @ target_centred)
    # The least significant axis is turned round where the best orthogonal matrix would be a reflection.
    sign = torch.ones_like(singular)
    sign[..., -1] = torch.where(torch.linalg.det(u @ v_transposed) < 0, -1.0, 1.0)
    rotation = (u * sign.unsqueeze(-2)) @ v_transposed  # (..., 3, 3), for row vectors
    spread = predicted_centred.square().sum(dim=(-2, -1)).clamp(min=torch.finfo(predicted.dtype).tiny)
    scale = (singular * sign).sum(dim=-1) / spread  # (...)
    return scale[..., None, None] * (predicted - predicted_mean) @ rotation + target_mean


def solve_root_translation(
    joints: torch.Tensor,
    points_px: torch.Tensor,
    intrinsics: torch.Tensor,
    weights: torch.Tensor | None = None,
    robust: bool = False,
) -> torch.Tensor:
    """Find where the root must stand for the joints to be seen at the given image points.

    `project(joints + translation, intrinsics) = points_px`, multiplied by the depth, is linear in the translation. It
    is solved by weighted least squares in float64, exactly if the points are exact. The robust solution goes on from
    there by iteratively reweighted least squares: it minimises the distances in the picture, which count with the
    Cauchy loss, so that a few joints far off do not move a person by metres. (Huber's loss, which never lets go of an
    outlier, left three times the error where three joints of 17 were 150 px off.)

    Args:
        joints: `(..., joints, 3)` root-relative, in mm.
        points_px: `(..., joints, 2)` in px of the image that `intrinsics` belongs to.
        intrinsics: `(..., 3, 3)` in px.
        weights: `(..., joints)`, not negative; all one by default. Joints of weight zero may be NaN.
        robust: Whether to withstand outliers.

    Returns:
        `(..., 3)` translation in mm, of the dtype of `joints`; NaN where the points do not determine it because they
        coincide.

    Raises:
        ValueError: Fewer than two joints have a positive weight, one of these is not finite, or the intrinsics are
            singular.
    """
    if weights is None:
        weights = joints.new_ones(joints.shape[:-1])
    used = weights > 0
    _require_usable(joints, points_px, used)
    _require_invertible(intrinsics, "intrinsics")
    # In units of the focal length, so that the rank can be judged whatever the resolution is.
    focal_px = torch.linalg.det(intrinsics[..., :2, :2].double()).abs().sqrt()[..., None, None, None]
    matrix = intrinsics.double().unsqueeze(-3)  # (..., 1, 3, 3)
    joints_safe = joints.double().where(used.unsqueeze(-1), 0.0)
    points_safe = points_px.double().where(used.unsqueeze(-1), 0.0).unsqueeze(-1)  # (..., joints, 2, 1)
    rows = (matrix[..., :2, :] - points_safe * matrix[..., 2:, :]) / focal_px  # (..., joints, 2, 3)
    offsets = (rows @ joints_safe.unsqueeze(-1)).squeeze(-1)  # (..., joints, 2)

    weights = weights.double()
    normals = rows.transpose(-1, -2) @ rows  # (..., joints, 3, 3)
    rights = -(rows.transpose(-1, -2) @ offsets.unsqueeze(-1)).squeeze(-1)  # (..., joints, 3)
    determined = _is_determined(normals, weights)
    translation = _solve_weighted(normals, rights, weights, determined)
    for _ in range(ROBUST_STEPS if robust else 0):
        depth = (joints_safe[..., 2] + translation[..., None, 2]).abs().clamp(min=1.0)  # (..., joints) mm
        distances = ((rows @ translation[..., None, :, None]).squeeze(-1) + offsets).norm(dim=-1) / depth
        trust = weights * _cauchy_weights(distances, used) / depth.square()
        translation = _solve_weighted(normals, rights, trust, determined)
    return translation.where(determined.unsqueeze(-1), torch.nan).to(joints.dtype)


def _is_determined(normals: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Tell whether the joints' equations `(..., joints, 3, 3)` have one solution: `(...)` bool."""
    eigenvalues = torch.linalg.eigvalsh((normals * weights[..., None, None]).sum(dim=-3))  # ascending
    return eigenvalues[..., 0] > 1e-10 * eigenvalues[..., 2]


def _solve_weighted(
    normals: torch.Tensor, rights: torch.Tensor, weights: torch.Tensor, determined: torch.Tensor
) -> torch.Tensor:
    """Sum the joints' normal equations by their weights and solve them: `(..., 3)`, of no meaning if undetermined."""
    normal = (normals * weights[..., None, None]).sum(dim=-3)  # (..., 3, 3)
    right = (rights * weights.unsqueeze(-1)).sum(dim=-2)  # (..., 3)
    identity = torch.eye(3, dtype=normal.dtype, device=normal.device)
    return torch.linalg.solve(normal.where(determined[..., None, None], identity), right.unsqueeze(-1)).squeeze(-1)


def _cauchy_weights(distances: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """Weights `(..., joints)` of the Cauchy loss, whose scale is set by the median distance of the joints in use."""
    median = distances.where(used, torch.nan).nanmedian(dim=-1, keepdim=True).values
    scale = (CAUCHY_SCALE * median).clamp(min=1e-12)  # of exact points all distances are zero
    return 1 / (1 + (distances / scale).square())


def _require_usable(joints: torch.Tensor, points_px: torch.Tensor, used: torch.Tensor) -> None:
    """Refuse people of fewer than two joints, and joints in use that are not finite."""
    if bool((used.sum(dim=-1) < 2).any()):
        raise ValueError("a translation needs at least 2 joints of positive weight, got fewer")
    finite = joints.isfinite().all(dim=-1) & points_px.isfinite().all(dim=-1)  # (..., joints)
    if bool((used & ~finite).any()):
        raise ValueError("`joints` and `points_px` must be finite where their weight is positive, got NaN or infinity")


def _require_invertible(matrix: torch.Tensor, name: str) -> None:
    """Refuse matrices `(..., n, n)` that are singular to working precision or not finite."""
    determinant = torch.linalg.det(matrix.double())
    magnitude = matrix.double().norm(dim=-1).prod(dim=-1)  # Hadamard's bound of the determinant
    if not bool((determinant.abs() > 1e-12 * magnitude).all()):
        raise ValueError(f"`{name}` must be invertible and finite, got {matrix.tolist()}")


def _inverse(matrix: torch.Tensor, name: str) -> torch.Tensor:
    """Invert matrices `(..., n, n)`, refusing singular ones by name."""
    _require_invertible(matrix, name)
    return torch.linalg.inv(matrix)
