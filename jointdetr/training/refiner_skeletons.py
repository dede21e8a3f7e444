"""Skeletons without pictures: where they come from, seen by any camera, and with errors like those of a pose model.

Shape vocabulary: `poses` (N), `batch`, `joints` (J). Positions are root-relative millimetres in camera axes: x right,
y down, z forward.
"""

import math

import torch

from ..data.loading import load_pose_dataset
from ..geometry_jointdetr import flip_joints
from ..skeleton_jointdetr import HUMAN36M, Skeleton
from ..synthesis.posing import rotation_about
from .refiner_recipe import RefinerRecipe

LABEL_COLUMNS = ("joints_3d", "joints_3d_valid", "skeleton")
_SYNTHESIS_BATCH = 512

SIGMA_SPREAD = 0.35
"""Spread of the logarithm of expected errors: between people, and again between the joints of one."""

NOISE_SHARE = (0.85, 0.85, 1.2)
"""Largest deviation of noise along x, y and z, as a share of the expected error.

Depth is harder to see. Noise of the full size would teach too much: a model knows already how people stand, and half
of what can be undone in noise cannot be in the model's errors.
"""


def gather_skeletons(recipe: RefinerRecipe, skeleton: Skeleton) -> torch.Tensor:
    """Collect all skeletons, upright in camera axes: `(poses, joints, 3)` root-relative mm.

    Raises:
        ValueError: There are fewer than two, or they are not of the given skeleton.
    """
    parts = []
    if recipe.synthetic > 0:
        if skeleton.joints != HUMAN36M.joints:
            raise ValueError(f"synthetic skeletons have the joints of {HUMAN36M.name!r}, expected {skeleton.name!r}")
        parts.append(synthetic_skeletons(recipe.synthetic, recipe.seed, recipe.preset))
    for source in recipe.sources:
        rows = load_pose_dataset(source.path, source.split, columns=LABEL_COLUMNS)
        count = len(rows) if source.limit is None else min(source.limit, len(rows))
        columns = rows.select_columns(list(LABEL_COLUMNS))[:count]
        if set(columns["skeleton"]) != {skeleton.name}:
            raise ValueError(f"{source.path} must be of skeleton {skeleton.name!r}, got {set(columns['skeleton'])}")
        joints = torch.tensor(columns["joints_3d"])[torch.tensor(columns["joints_3d_valid"]).all(dim=1)]
        parts += [joints - joints[:, skeleton.root, None]] * source.repeat
    if sum(len(part) for part in parts) < 2:
        raise ValueError("`synthetic` and `sources` must give at least 2 complete skeletons")
    return torch.cat(parts)


def typical_bone_lengths(poses: torch.Tensor, skeleton: Skeleton) -> list[float]:
    """Median length in mm of the bone that ends in each joint of `(poses, joints, 3)`, 0 at the root."""
    parents = [joint if parent < 0 else parent for joint, parent in enumerate(skeleton.parents)]
    lengths = (poses - poses[:, parents]).norm(dim=-1)  # (poses, joints)
    return [round(length, 1) for length in lengths.median(dim=0).values.tolist()]


def synthetic_skeletons(count: int, seed: int, preset: str) -> torch.Tensor:
    """Draw skeletons of the synthetic body, upright in camera axes: `(count, 17, 3)` mm relative to the pelvis."""
    from ..synthesis.body import load_body
    from ..synthesis.poses import sample_skeletons

    body = load_body()
    first = seed * 10_000_000  # runs of different seeds share no person
    batches = [
        sample_skeletons(body, range(first + start, first + min(start + _SYNTHESIS_BATCH, count)), preset)
        for start in range(0, count, _SYNTHESIS_BATCH)
    ]
    x, y, z = torch.cat(batches).float().unbind(dim=-1)  # z up
    return torch.stack([x, -z, y], dim=-1)


def random_cameras(
    poses: torch.Tensor, skeleton: Skeleton, tilt_degrees: float, generator: torch.Generator
) -> torch.Tensor:
    """See every pose by another camera, and half of them in a mirror: `(batch, joints, 3)` -> the same shape."""
    batch = len(poses)
    mirrored = torch.rand(batch, 1, 1, generator=generator) < 0.5
    poses = torch.where(mirrored, flip_joints(poses, skeleton.flip_pairs), poses)
    limits = torch.tensor([math.pi, math.radians(tilt_degrees), math.radians(tilt_degrees)])
    turn, tilt, roll = ((2 * torch.rand(batch, 3, generator=generator) - 1) * limits).unbind(dim=-1)
    rotation = rotation_about("z", roll) @ rotation_about("x", tilt) @ rotation_about("y", turn)  # (batch, 3, 3)
    return poses @ rotation.transpose(-1, -2)


def add_noise(joints: torch.Tensor, noise_mm: float, generator: torch.Generator) -> torch.Tensor:
    """Add Gaussian noise of a deviation that each pose draws; the pose stays relative to its root's true place."""
    deviation = noise_mm * torch.rand(len(joints), 1, 1, generator=generator)
    return joints + deviation * torch.randn(joints.shape, generator=generator)


def draw_sigmas(
    joints: torch.Tensor, skeleton: Skeleton, expected_error: float, generator: torch.Generator
) -> torch.Tensor:
    """Draw how far off a pose model may expect joints to be: `(batch, joints, 3)` -> `(batch, joints)` mm.

    In the mean the given share of the way from the root along the bones: the farther out, the less sure.
    """
    spread = torch.randn(len(joints), 1, generator=generator) + torch.randn(joints.shape[:2], generator=generator)
    return expected_error * _ways_from_root(joints, skeleton) * torch.exp(SIGMA_SPREAD * spread)


def add_expected_noise(joints: torch.Tensor, sigmas: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add Gaussian noise that is sized by the expected errors `(batch, joints)`, and most of the time smaller."""
    deviation = sigmas[..., None] * torch.rand(*sigmas.shape, 1, generator=generator) * torch.tensor(NOISE_SHARE)
    return joints + deviation * torch.randn(joints.shape, generator=generator)


def _ways_from_root(joints: torch.Tensor, skeleton: Skeleton) -> torch.Tensor:
    """Length of the bones between every joint and the root: `(batch, joints)` mm."""
    ways = torch.zeros(joints.shape[:2])
    for joint in range(len(skeleton.joints)):
        at = joint
        while skeleton.parents[at] >= 0:
            ways[:, joint] += (joints[:, at] - joints[:, skeleton.parents[at]]).norm(dim=-1)
            at = skeleton.parents[at]
    return ways
