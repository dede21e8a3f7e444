"""From poses in crops to people in the picture, before the camera and in the world.

Where a camera is known, a person stands where the camera would see the root-relative joints at their image points.
Image points of the picture are as the lens shows them; they are undistorted before anything is solved.

Shape vocabulary: crops (one for each person of each picture), joints. Everything here is float64 on the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.image_processing_utils import BatchFeature

from .assembly_jointdetr import AssembledPoses
from .camera_jointdetr import GUESSED_FIELD_OF_VIEW, Camera
from .geometry_jointdetr import apply_affine, invert_affine, project, solve_root_translation

# Two joints would determine a translation, but put it metres away when either is a few pixels off.
MIN_JOINTS_FOR_TRANSLATION = 3

CameraOfCrop = Camera | None


@dataclass
class PlacedPoses:
    """People in the picture, before the camera and in the world.

    Args:
        joints_2d: `(crops, joints, 2)` px of the picture. A missing joint is where its estimated 3D place would be
            seen, and NaN if there is none.
        inside: `(crops, joints)` bool, whether the joint lies in the picture.
        joints_camera: `(crops, joints, 3)` mm in camera space; NaN where the joints cannot be placed.
        residual_px: `(crops,)` root mean square distance in the picture of the detected joints from `joints_camera`.
        joints_world: `(crops, joints, 3)` mm in the world; NaN where a camera's place is not known.
    """

    joints_2d: torch.Tensor
    inside: torch.Tensor
    joints_camera: torch.Tensor
    residual_px: torch.Tensor
    joints_world: torch.Tensor


def place_poses(poses: AssembledPoses, inputs: BatchFeature, cameras: Sequence[CameraOfCrop]) -> PlacedPoses:
    """Carry poses from their crops into the picture and into the spaces of their cameras.

    Args:
        poses: One skeleton for each crop, on the CPU.
        inputs: The processor's result for the crops.
        cameras: The camera of each crop; where it is None, a place is guessed for the sake of `inside` alone.

    Returns:
        [`PlacedPoses`]; where no camera is known, what is said in camera space has no meaning.

    Raises:
        ValueError: The crops' geometry was cast to half precision.
    """
    height, width = inputs["pixel_values"].shape[-2:]
    crop_points = poses.points.double() * torch.tensor([width, height])  # (crops, joints, 2) px of the crop
    joints_2d = apply_affine(crop_points, invert_affine(single_precision(inputs, "crop_affine").double()))
    sizes = inputs["image_sizes"].cpu()[inputs["image_index"].cpu()].flip(-1)  # (crops, 2) width, height
    known = torch.tensor([camera is not None for camera in cameras])
    cameras = [
        camera or Camera.from_field_of_view(GUESSED_FIELD_OF_VIEW, size)
        for camera, size in zip(cameras, sizes.tolist(), strict=True)
    ]
    wanted = known | ~poses.detected.all(dim=-1)  # (crops,)
    joints_camera, seen_at = _place_in_camera(poses, joints_2d, cameras, wanted)
    squared = (seen_at - joints_2d).square().sum(dim=-1)  # (crops, joints), NaN where missing
    place = torch.where(poses.detected[..., None], joints_2d, seen_at)
    return PlacedPoses(
        joints_2d=place,
        inside=((place >= 0) & (place <= sizes[:, None])).all(dim=-1),
        joints_camera=joints_camera,
        residual_px=squared.nanmean(dim=-1).sqrt(),
        joints_world=_to_world(joints_camera, cameras),
    )


def single_precision(inputs: BatchFeature, name: str) -> torch.Tensor:
    """Return geometry of the batch on the CPU, refusing what half precision has spoilt by whole pixels."""
    values = inputs[name]
    if values.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"`inputs[{name!r}]` must be in single precision, got {values.dtype}: cast `pixel_values` alone"
        )
    return values.float().cpu()


def _place_in_camera(
    poses: AssembledPoses, joints_2d: torch.Tensor, cameras: Sequence[Camera], wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the joints stand before the camera `(crops, joints, 3)` mm, and where it sees them.

    Both are NaN for crops that are not `wanted` `(crops,)`, and for people who cannot be placed.
    """
    joints = poses.joints.double()
    points = _through_lenses(joints_2d, cameras, Camera.undistort)
    intrinsics = torch.stack([torch.from_numpy(camera.intrinsics) for camera in cameras])  # (crops, 3, 3)
    weights = poses.scores.double() * poses.detected * points.isfinite().all(dim=-1)  # (crops, joints)
    solved = wanted & ((weights > 0).sum(dim=-1) >= MIN_JOINTS_FOR_TRANSLATION)  # (crops,)
    joints_camera = torch.full_like(joints, torch.nan)
    if solved.any():
        joints_camera[solved] = joints[solved] + solve_root_translation(
            joints[solved], points[solved], intrinsics[solved], weights[solved], robust=True
        ).unsqueeze(-2)
    behind = (joints_camera[..., 2] <= 0).any(dim=-1)
    joints_camera[behind] = torch.nan
    return joints_camera, _through_lenses(project(joints_camera, intrinsics), cameras, Camera.distort)


def _through_lenses(points: torch.Tensor, cameras: Sequence[Camera], move: Any) -> torch.Tensor:
    """Distort or undistort the image points of each crop by the lens of its camera, all crops of a camera at once."""
    crops_of = {id(camera): (camera, []) for camera in cameras if camera.distortion is not None}
    for crop, camera in enumerate(cameras):
        if camera.distortion is not None:
            crops_of[id(camera)][1].append(crop)
    points = points.clone()
    for camera, crops in crops_of.values():
        points[crops] = move(camera, points[crops])
    return points


def _to_world(joints_camera: torch.Tensor, cameras: Sequence[Camera]) -> torch.Tensor:
    """Return the joints in the world, `(crops, joints, 3)` mm; NaN where the camera's place is not known."""
    unknown = torch.full((3, 4), torch.nan, dtype=torch.float64)
    places = [unknown if camera.extrinsics is None else torch.from_numpy(camera.extrinsics) for camera in cameras]
    extrinsics = torch.stack(places)  # (crops, 3, 4)
    return (joints_camera - extrinsics[:, None, :, 3]) @ extrinsics[..., :3]  # row vectors: the rotation's inverse


__all__ = ["PlacedPoses", "place_poses", "single_precision"]
