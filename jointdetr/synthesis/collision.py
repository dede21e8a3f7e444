"""Does a body run into itself? Capsules around its parts answer from the bones alone.

A capsule is a segment with a radius; each moves rigidly with one bone. Ends and radii are measured on the surface, at
the mean shape and once for each shape component: they are linear in the shape, as the surface is.

Shapes: batch (people), capsules, pairs, components, bones. Metres.
"""

from itertools import combinations

import torch
from torch import Tensor

from .body import Body

# Limbs: a capsule from a bone's head to the next bone's.
LIMBS = {
    "upperarm01": "lowerarm01",
    "lowerarm01": "wrist",
    "upperleg01": "lowerleg01",
    "lowerleg01": "foot",
}
# Ends of limbs: a capsule from a bone's head to the vertex of the bone that is farthest from it.
TIPS = ("wrist", "foot")
# The share of its points that a capsule holds: half for round limbs, fewer for flat hands and feet.
LIMB_THICKNESS, TIP_THICKNESS = 0.5, 0.3
# The trunk: a capsule as wide and as deep as the vertices of some bones, along an axis of the rest pose; it moves with
# the first bone.
TRUNK = {
    "pelvis": (("root", "pelvis.L", "pelvis.R", "spine05"), "x"),
    "waist": (("spine04",), "x"),
    "ribs": (("spine02",), "x"),
    "breast": (("spine01",), "x"),
    "head": (("head",), "z"),
}
# Neighbours overlap in every pose, and so do soft parts that fold upon each other.
TOUCHING = {
    frozenset(pair)
    for pair in (
        ("pelvis", "waist"),
        ("waist", "ribs"),
        ("ribs", "breast"),
        ("pelvis", "ribs"),
        ("waist", "breast"),
        ("breast", "head"),
    )
}
FOLDING = {
    ("pelvis", "upperleg01"),
    ("waist", "upperleg01"),
    ("ribs", "upperleg01"),
    ("breast", "upperarm01"),
    ("ribs", "upperarm01"),
    ("waist", "upperarm01"),
    ("head", "upperarm01"),
}
ARM = ("upperarm01", "lowerarm01", "wrist")
LEG = ("upperleg01", "lowerleg01", "foot")


class CapsuleModel:
    """Capsules of a body, and which pairs of them must stay apart.

    Args:
        body: The body whose surface is measured.
    """

    def __init__(self, body: Body) -> None:
        """Measure the capsules at the mean shape and along each component."""
        self.names, self.bones = _capsule_bones(body)
        components = body.shape_samples.shape[1]
        shapes = torch.cat([torch.zeros(1, components), torch.eye(components)]).to(body.device)
        surface, heads = body.rest_surface(shapes).double().cpu(), body.rest_bones(shapes).double().cpu()
        dominant = body.dominant_bone.cpu()
        measured = torch.stack([_measure(body, dominant, *person) for person in zip(surface, heads, strict=True)])
        self.mean, self.basis = measured[0], measured[1:] - measured[0]  # (capsules, 7), (components, capsules, 7)
        self.pairs = torch.tensor(_pairs(self.names))  # (pairs, 2)

    def penetration(self, shape: Tensor, rest: Tensor, orientations: Tensor, heads: Tensor) -> Tensor:
        """How deep the worst pair of parts runs into each other, negative where all keep apart.

        Args:
            shape: Shape coefficients `(batch, components)`.
            rest: Bone heads at rest `(batch, bones, 3)`.
            orientations: Those of the bones in the world `(batch, bones, 3, 3)`, from `Body.forward_kinematics`.
            heads: The posed bone heads `(batch, bones, 3)`.

        Returns:
            Depth `(batch,)`, metres.
        """
        capsules = self.mean + torch.einsum("bk,kcn->bcn", shape, self.basis)
        ends, radius = capsules[..., :6].unflatten(-1, (2, 3)), capsules[..., 6]  # (batch, capsules, 2, 3)
        turned = orientations[:, self.bones][:, :, None] @ (ends - rest[:, self.bones, None])[..., None]
        ends = heads[:, self.bones, None] + turned[..., 0]
        one, other = self.pairs.unbind(1)
        distance = segment_distance(ends[:, one], ends[:, other])  # (batch, pairs)
        return (radius[:, one] + radius[:, other] - distance).amax(dim=1)


def segment_distance(one: Tensor, other: Tensor) -> Tensor:
    """Shortest distance between segments given by their ends `(..., 2, 3)`: (...,).

    Source: Ericson, "Real-Time Collision Detection", section 5.1.9.
    """
    along_one, along_other = one[..., 1, :] - one[..., 0, :], other[..., 1, :] - other[..., 0, :]
    between = one[..., 0, :] - other[..., 0, :]
    tiny = torch.finfo(one.dtype).tiny
    a, e = (along_one**2).sum(-1).clamp(min=tiny), (along_other**2).sum(-1).clamp(min=tiny)
    b, c, f = (along_one * along_other).sum(-1), (along_one * between).sum(-1), (along_other * between).sum(-1)
    # Parallel segments divide by next to nothing; whatever point that gives, the clamp and the next lines repair it.
    on_one = ((b * f - c * e) / (a * e - b * b).clamp(min=tiny)).clamp(0, 1)
    on_other = ((b * on_one + f) / e).clamp(0, 1)
    on_one = ((b * on_other - c) / a).clamp(0, 1)
    gap = between + on_one[..., None] * along_one - on_other[..., None] * along_other
    return gap.norm(dim=-1)


def _capsule_bones(body: Body) -> tuple[list[str], Tensor]:
    """Names of the capsules, and the bone each moves with (capsules,)."""
    bones = {name: moved_with[0] for name, (moved_with, _) in TRUNK.items()}
    for side in "LR":
        bones |= {f"{part}.{side}": f"{part}.{side}" for part in (*LIMBS, *TIPS)}
    return list(bones), torch.tensor([body.bone(bone) for bone in bones.values()])


def _measure(body: Body, dominant: Tensor, surface: Tensor, heads: Tensor) -> Tensor:
    """Ends and radius of each capsule at rest, from a surface (vertices, 3): (capsules, 7)."""
    capsules = []
    for names, axis in TRUNK.values():
        belongs = torch.isin(dominant, torch.tensor([body.bone(name) for name in names]))
        capsules.append(_trunk_capsule(surface[belongs], "xyz".index(axis)))
    for side in "LR":
        for part, following in LIMBS.items():
            points = surface[dominant == body.bone(f"{part}.{side}")]
            ends = heads[[body.bone(f"{part}.{side}"), body.bone(f"{following}.{side}")]]
            capsules.append(_around(points, ends, LIMB_THICKNESS))
        for part in TIPS:
            points, start = surface[dominant == body.bone(f"{part}.{side}")], heads[body.bone(f"{part}.{side}")]
            tip = points[(points - start).norm(dim=1).argmax()]
            capsules.append(_around(points, torch.stack([start, tip]), TIP_THICKNESS))
    return torch.stack(capsules)


def _around(points: Tensor, ends: Tensor, thickness: float) -> Tensor:
    """Capsule along a segment (2, 3), which holds this share of the points: (7,)."""
    distance = segment_distance(points[:, None].expand(-1, 2, -1), ends.expand(len(points), 2, 3))
    return torch.cat([ends.flatten(), distance.quantile(thickness)[None]])


def _trunk_capsule(points: Tensor, axis: int) -> Tensor:
    """Capsule along an axis through the middle of the points' box, as thick as the box is deep: (7,)."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    middle, half = (low + high) / 2, (high - low) / 2
    radius = torch.minimum(half[axis], half[1])
    reach = torch.zeros(3, dtype=points.dtype)
    reach[axis] = (half[axis] - radius).clamp(min=0)
    return torch.cat([middle - reach, middle + reach, radius[None]])


def _pairs(names: list[str]) -> list[tuple[int, int]]:
    """Index pairs of capsules that must stay apart."""
    return [
        (one, other) for one, other in combinations(range(len(names)), 2) if not _may_touch(names[one], names[other])
    ]


def _may_touch(one: str, other: str) -> bool:
    """Whether two parts are neighbours, or fold upon each other."""
    (part, _, side), (other_part, _, other_side) = one.partition("."), other.partition(".")
    if side and other_side:
        same_limb = part in ARM and other_part in ARM or part in LEG and other_part in LEG
        return side == other_side and same_limb or part == other_part and part in ("upperleg01", "wrist")
    trunk, limb = (part, other_part) if not side else (other_part, part)
    return frozenset((part, other_part)) in TOUCHING or (trunk, limb) in FOLDING
