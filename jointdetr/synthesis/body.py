"""A human body in 600 kB: 16 shape components, 28 bones, linear blend skinning, Human3.6M's 17 joints.

Capsules around its parts, segments with a radius that move with one bone each, say from the bones alone whether it
runs into itself. Ends and radii are linear in the shape, as the surface on which they are measured is.

Axes: z up, facing -y, so that +x is the person's left; metres. The origin is the root bone.
Shapes: batch (people), components (16), bones (28), vertices (13,718), faces (27,420), joints (17), capsules, pairs.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

BODY_FILE = Path(__file__).with_name("body.npz")

# The file stores the mean shape as whole numbers of 1/8000 m and each component as signed bytes of its largest value.
MEAN_UNITS_PER_METRE = 8000.0
COMPONENT_STEPS = 127.0

# Human3.6M's joints are not quite where this skeleton's bones begin. These shares of the way from one landmark to
# another give its proportions: the line of the hips wider than the heads of the femurs and nearer the waist, shoulders
# inside the arm's, the thorax at the root of the neck, joint 9 between there and the nose, and the "head" well below
# the crown.
PELVIS_TOWARDS_WAIST = 0.35
HIP_BEYOND_BONE = 0.18
KNEE_TOWARDS_ANKLE = 0.02
SPINE_TOWARDS_CHEST = 0.15
SHOULDER_TOWARDS_MIDDLE = 0.2
THORAX_TOWARDS_NECK = 0.45
NECK_TOWARDS_NOSE = 0.53
HEAD_TOWARDS_CROWN = 0.2

# Bones of limbs, each with the bone that it points at. A capsule goes from the one's head to the other's.
LIMBS = {"upperarm01": "lowerarm01", "lowerarm01": "wrist", "upperleg01": "lowerleg01", "lowerleg01": "foot"}
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
ARM = ("upperarm01", "lowerarm01", "wrist")
LEG = ("upperleg01", "lowerleg01", "foot")
# Neighbours overlap in every pose, and so do soft parts that fold upon each other, and both thighs or hands.
TOUCHING = {
    "pelvis": ("waist", "ribs", "upperleg01"),
    "waist": ("ribs", "breast", "upperleg01", "upperarm01"),
    "ribs": ("breast", "upperleg01", "upperarm01"),
    "breast": ("head", "upperarm01"),
    "head": ("upperarm01",),
    **dict.fromkeys(ARM, ARM),  # of one side
    **dict.fromkeys(LEG, LEG),
}
TOUCHING_ACROSS = ("upperleg01", "wrist")


@dataclass(frozen=True)
class PosedBody:
    """Surface, bone heads and Human3.6M joints of a batch of people, in metres."""

    vertices: Tensor  # (batch, vertices, 3)
    bones: Tensor  # (batch, bones, 3), where each bone begins
    joints: Tensor  # (batch, 17, 3), in the order of `skeleton_jointdetr.HUMAN36M`


class Body:
    """The body model, on a device: shape coefficients and bone rotations in, surface and joints out.

    Shape coefficients have mean 0 and standard deviation 1. The rotation of a bone is relative to its parent's and is
    written in the axes of the world, not of the bone: the identity everywhere is the rest pose.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        with np.load(BODY_FILE) as file:
            arrays = {name: file[name] for name in file.files}
        self.device = torch.device(device)
        num_vertices = len(arrays["weight"])
        mean = self._tensor(arrays["mean"]) / MEAN_UNITS_PER_METRE
        basis = self._tensor(arrays["basis"]) * self._tensor(arrays["scale"])[:, None, None] / COMPONENT_STEPS

        self.bone_names: list[str] = arrays["labels"].tolist()
        self.parents: list[int] = arrays["parent"].tolist()
        self.faces = torch.as_tensor(arrays["faces"].astype(np.int64), device=self.device)  # (faces, 3)
        self.reference = mean[:num_vertices].contiguous()  # (vertices, 3)
        self.bone_rest = mean[num_vertices:].contiguous()  # (bones, 3)
        self.bone_basis = basis[:, num_vertices:].contiguous()  # (components, bones, 3)
        self.shape_samples = self._tensor(arrays["coef"])  # (600, components), of a varied population

        # Coordinates come before vertices in everything that skinning touches: its inner loops then run along memory.
        self._surface_mean = self.reference.T.contiguous()  # (3, vertices)
        self._surface_basis = basis[:, :num_vertices].transpose(1, 2).contiguous()  # (components, 3, vertices)
        dense = np.zeros((len(self.bone_names), num_vertices), dtype=np.float32)  # from four weights a vertex
        np.add.at(dense, (arrays["bone"], np.arange(num_vertices)[:, None]), arrays["weight"].astype(np.float32))
        self._skin_weights = self._tensor(dense / dense.sum(axis=0))  # (bones, vertices)
        self.dominant_bone = self._skin_weights.argmax(dim=0)  # (vertices,)
        of_head = self.dominant_bone == self.bone("head")
        nose = self.reference[:, 1].masked_fill(~of_head, torch.inf).argmin()  # the foremost vertex of the head
        self._landmarks = torch.stack([nose, self.reference[:, 2].argmax()])

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array.astype(np.float32), device=self.device)

    def bone(self, name: str) -> int:
        """Index of the bone called `name`."""
        return self.bone_names.index(name)

    def rest_bones(self, shape: Tensor) -> Tensor:
        """Bone heads at rest of people of shape (batch, components): (batch, bones, 3), metres."""
        return self.bone_rest.to(shape) + torch.einsum("bk,knc->bnc", shape, self.bone_basis.to(shape))

    @torch.no_grad()
    def rest_surface(self, shape: Tensor) -> Tensor:
        """Surface at rest of people of shape (batch, components): (batch, vertices, 3), metres."""
        return self._rest_surface(shape, slice(None)).transpose(1, 2)

    def _rest_surface(self, shape: Tensor, chosen: Tensor | slice) -> Tensor:
        """The chosen vertices of the rest surface, coordinates first: (batch, 3, chosen)."""
        mean, basis = self._surface_mean[:, chosen], self._surface_basis[:, :, chosen]
        return mean + (shape @ basis.flatten(1)).unflatten(1, mean.shape)

    def forward_kinematics(self, rest: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Turn every bone about its head, parents first.

        From bone heads at rest `(batch, bones, 3)`, metres, and the rotation of each bone relative to its parent's
        `(batch, bones, 3, 3)`: orientations in the world `(batch, bones, 3, 3)` and bone heads `(batch, bones, 3)`.
        """
        orientations, heads = [rotations[:, 0]], [rest[:, 0]]
        for bone, parent in enumerate(self.parents[1:], start=1):
            offset = (rest[:, bone] - rest[:, parent])[..., None]
            orientations.append(orientations[parent] @ rotations[:, bone])
            heads.append(heads[parent] + (orientations[parent] @ offset)[..., 0])
        return torch.stack(orientations, dim=1), torch.stack(heads, dim=1)

    @torch.no_grad()
    def pose(self, shape: Tensor, rotations: Tensor) -> PosedBody:
        """Pose people of shapes (batch, components) by their bones' rotations from the parents' (batch, bones, 3, 3).

        The root's rotation turns the whole person; the root bone is where the shape has it at rest, near the origin.
        """
        transforms, bones = self._bone_transforms(shape, rotations)
        surface = self._skin(shape, transforms, slice(None))
        joints = self._human36m_joints(bones, surface[:, :, self._landmarks])
        return PosedBody(vertices=surface.transpose(1, 2).contiguous(), bones=bones, joints=joints)

    @torch.no_grad()
    def joints(self, shape: Tensor, rotations: Tensor) -> Tensor:
        """The `joints` of `pose` alone, at a small part of its cost: (batch, 17, 3), metres."""
        transforms, bones = self._bone_transforms(shape, rotations)
        return self._human36m_joints(bones, self._skin(shape, transforms, self._landmarks))

    def _bone_transforms(self, shape: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """What each bone does to the rest pose (batch, bones, 3, 4), and the bone heads (batch, bones, 3)."""
        rest = self.rest_bones(shape)
        orientations, heads = self.forward_kinematics(rest, rotations)
        translation = heads - (orientations @ rest[..., None])[..., 0]
        return torch.cat([orientations, translation[..., None]], dim=-1), heads

    def _skin(self, shape: Tensor, transforms: Tensor, chosen: Tensor | slice) -> Tensor:
        """Linear blend skinning of the chosen vertices, coordinates first: (batch, 3, chosen)."""
        rest = self._rest_surface(shape, chosen)
        flat = transforms.flatten(2).transpose(1, 2)  # (batch, 12, bones)
        blended = (flat @ self._skin_weights[:, chosen]).unflatten(1, (3, 4))  # (batch, 3, 4, chosen)
        return (blended[:, :, :3] * rest[:, None]).sum(dim=2) + blended[:, :, 3]

    def _human36m_joints(self, bones: Tensor, landmarks: Tensor) -> Tensor:
        """Human3.6M's joints from bone heads (batch, bones, 3) and nose and crown (batch, 3, 2)."""
        heads = dict(zip(self.bone_names, bones.unbind(1), strict=True))
        nose, crown = landmarks.unbind(-1)
        collar = (heads["clavicle.L"] + heads["clavicle.R"]) / 2
        between_hips = (heads["upperleg01.L"] + heads["upperleg01.R"]) / 2
        pelvis = torch.lerp(between_hips, heads["spine04"], PELVIS_TOWARDS_WAIST)
        spine = torch.lerp(heads["spine02"], heads["spine01"], SPINE_TOWARDS_CHEST)
        thorax = torch.lerp(collar, heads["neck01"], THORAX_TOWARDS_NECK)
        neck = torch.lerp(thorax, nose, NECK_TOWARDS_NOSE)
        head = torch.lerp(heads["head"], crown, HEAD_TOWARDS_CROWN)
        legs, arms = {}, {}
        for side in "LR":
            hip, knee, ankle = (heads[f"{bone}.{side}"] for bone in LEG)
            hip = pelvis + (1 + HIP_BEYOND_BONE) * (hip - between_hips)
            legs[side] = [hip, torch.lerp(knee, ankle, KNEE_TOWARDS_ANKLE), ankle]
            shoulder, elbow, wrist = (heads[f"{bone}.{side}"] for bone in ARM)
            arms[side] = [torch.lerp(shoulder, collar, SHOULDER_TOWARDS_MIDDLE), elbow, wrist]
        trunk = [spine, thorax, neck, head]
        return torch.stack([pelvis, *legs["R"], *legs["L"], *trunk, *arms["L"], *arms["R"]], dim=1)


@lru_cache(maxsize=4)
def load_body(device: torch.device | str = "cpu") -> Body:
    """The body that ships with the package, read once per device."""
    return Body(device=device)


class CapsuleModel:
    """Capsules of a body, measured on its surface, and which pairs of them must stay apart."""

    def __init__(self, body: Body) -> None:
        bones = {name: moved_with[0] for name, (moved_with, _) in TRUNK.items()}
        bones |= {f"{part}.{side}": f"{part}.{side}" for side in "LR" for part in (*LIMBS, *TIPS)}
        self.bones = torch.tensor([body.bone(bone) for bone in bones.values()])  # (capsules,) that each moves with
        components = body.shape_samples.shape[1]
        shapes = torch.cat([torch.zeros(1, components), torch.eye(components)]).to(body.device)
        surface, heads = body.rest_surface(shapes).double().cpu(), body.rest_bones(shapes).double().cpu()
        dominant = body.dominant_bone.cpu()
        measured = torch.stack([_measure(body, dominant, *person) for person in zip(surface, heads, strict=True)])
        self.mean, self.basis = measured[0], measured[1:] - measured[0]  # (capsules, 7), (components, capsules, 7)
        pairs = [(i, j) for (i, one), (j, other) in combinations(enumerate(bones), 2) if not _may_touch(one, other)]
        self.pairs = torch.tensor(pairs)  # (pairs, 2)

    def penetration(self, shape: Tensor, rest: Tensor, orientations: Tensor, heads: Tensor) -> Tensor:
        """How deep `(batch,)`, in metres, the worst pair of parts runs into each other, negative where all keep apart.

        Shape coefficients `(batch, components)` and bone heads at rest `(batch, bones, 3)` are those of people whose
        bones have these orientations `(batch, bones, 3, 3)` and heads, from `Body.forward_kinematics`.
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


def _measure(body: Body, dominant: Tensor, surface: Tensor, heads: Tensor) -> Tensor:
    """Ends and radius of each capsule at rest, from a surface (vertices, 3): (capsules, 7)."""
    capsules = []
    for names, axis in TRUNK.values():
        belongs = torch.isin(dominant, torch.tensor([body.bone(name) for name in names]))
        capsules.append(_trunk_capsule(surface[belongs], "xyz".index(axis)))
    for side in "LR":
        for part, following in LIMBS.items():
            bone, end = body.bone(f"{part}.{side}"), body.bone(f"{following}.{side}")
            capsules.append(_around(surface[dominant == bone], heads[[bone, end]], LIMB_THICKNESS))
        for part in TIPS:
            bone = body.bone(f"{part}.{side}")
            points, start = surface[dominant == bone], heads[bone]
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


def _may_touch(one: str, other: str) -> bool:
    """Whether two parts are neighbours, or fold upon each other."""
    (part, _, side), (other_part, _, other_side) = one.partition("."), other.partition(".")
    if side and other_side and side != other_side:
        return part == other_part and part in TOUCHING_ACROSS
    return other_part in TOUCHING[part] or part in TOUCHING[other_part]
