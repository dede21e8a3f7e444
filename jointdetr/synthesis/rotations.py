"""Batched rotation matrices: `(..., 3, 3)`, acting on column vectors."""

import torch
from torch import Tensor


def rotation_about(axis: str, angle: Tensor) -> Tensor:
    """Rotation by `angle` radians (...,) about "x", "y" or "z", right-handed: (..., 3, 3)."""
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = torch.eye(3, dtype=angle.dtype, device=angle.device).expand(*angle.shape, 3, 3).clone()
    rotation[..., first, first] = rotation[..., second, second] = torch.cos(angle)
    rotation[..., second, first] = torch.sin(angle)
    rotation[..., first, second] = -torch.sin(angle)
    return rotation


def rotation_between(source: Tensor, target: Tensor) -> Tensor:
    """Smallest rotation that turns direction `source` (..., 3) into `target` (..., 3), not opposite to it."""
    source = torch.nn.functional.normalize(source, dim=-1)
    target = torch.nn.functional.normalize(target, dim=-1)
    source, target = torch.broadcast_tensors(source, target)
    cosine = (source * target).sum(-1)[..., None, None]
    cross = cross_matrix(torch.linalg.cross(source, target))
    identity = torch.eye(3, dtype=source.dtype, device=source.device)
    return identity + cross + cross @ cross / (1 + cosine)


def cross_matrix(vector: Tensor) -> Tensor:
    """Matrix `(..., 3, 3)` whose product with `b` is the cross product of `vector` (..., 3) with `b`."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
