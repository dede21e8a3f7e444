"""How the bones turn: by joint angles, arms by angle or by where the wrist goes, or as motion capture recorded it.

A limb's angles count from hanging straight down, so its rest direction is first turned there. Degrees, metres; z up.
Signs follow from right-handed rotations: before its heading a person faces -y, and its left side is +x.

Shapes: batch (people), frames, bones; sides are (left, right).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..formats.acclaim import RecordedSkeleton, read_amc, read_asf, world_rotations
from .body import ARM, LEG, LIMBS, Body
from .gestures import ELBOW_LIMIT, TARGET_BONES, THIGH, Arms
from .postures import Draws, Posture, combine

# How the bend of the back is shared out among its bones, from the pelvis up, and that of the neck.
SPINE_SHARES = {"spine05": 0.1, "spine04": 0.2, "spine03": 0.25, "spine02": 0.25, "spine01": 0.2}
NECK_SHARES = {"neck01": 0.3, "neck03": 0.3, "head": 0.4}
CHEST = "spine01"
# The distance of pelvis and neck, which gesture targets are scaled by, of a person 1.7 m tall.
TARGET_TRUNK_M = 0.54
# The shoulder blade takes part in lifting the arm.
SHOULDER_RISE, SHOULDER_RISE_FROM = 0.25, 45.0
SHOULDER_ADVANCE = 0.12
# An aimed arm stays a little short of straight.
LONGEST_REACH = 0.985

# From recorded axes, y up, facing +z, to z up, facing -y.
TO_BODY_AXES = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
# Which recorded bone turns which bone of the body; bones left out follow their parents.
BODY_BONES = {"root": "root", "lowerback": "spine04", "upperback": "spine03", "thorax": "spine01"}
BODY_BONES |= {"lowerneck": "neck01", "upperneck": "neck03", "head": "head"}
LIMB_BONES = {"clavicle": "clavicle", "humerus": "upperarm01", "radius": "lowerarm01"}
LIMB_BONES |= {"femur": "upperleg01", "tibia": "lowerleg01", "foot": "foot"}
BODY_BONES |= {f"{side.lower()}{name}": f"{bone}.{side}" for side in "LR" for name, bone in LIMB_BONES.items()}


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
    x, y, z = torch.linalg.cross(source, target).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=source.dtype, device=source.device)
    return identity + cross + cross @ cross / (1 + cosine)


class Side(NamedTuple):
    """One side of the body."""

    column: int  # of what is given for (left, right)
    name: str  # behind its bones' names
    outward: float  # the sign of x

    def bones(self, body: Body, limb: Sequence[str]) -> list[int]:
        """The bones of a limb of this side."""
        return [body.bone(f"{bone}.{self.name}") for bone in limb]


SIDES = (Side(0, "L", 1.0), Side(1, "R", -1.0))


def bone_rotations(body: Body, rest: Tensor, posture: Posture, arms: Arms, heading: Tensor) -> Tensor:
    """Rotations (batch, bones, 3, 3) of people with bone heads `rest` (batch, bones, 3), heading (batch,) radians."""
    rotations = torch.eye(3, dtype=rest.dtype).expand(*rest.shape[:2], 3, 3).clone()
    _turn_trunk(body, rotations, posture, heading)
    for side in SIDES:
        _turn_leg(body, rest, rotations, posture, side)
        _turn_shoulder(body, rotations, arms, side)
    orientations, heads = body.forward_kinematics(rest, rotations)
    for side in SIDES:
        _ArmSolver(body, rest, orientations, heads, side).turn(rotations, arms)
    return rotations


def _about(axis: str, degrees: Tensor) -> Tensor:
    return rotation_about(axis, torch.deg2rad(degrees))


def _turn_trunk(body: Body, rotations: Tensor, posture: Posture, heading: Tensor) -> None:
    """Root, back, neck and head."""
    rotations[:, body.bone("root")] = (
        rotation_about("z", heading) @ _about("x", posture.pelvis_pitch) @ _about("y", posture.pelvis_roll)
    )
    spine = (posture.spine_bend, posture.spine_side, posture.spine_twist)
    neck = (posture.head_nod, posture.head_tilt, posture.head_turn)
    for shares, (bend, side, twist) in ((SPINE_SHARES, spine), (NECK_SHARES, neck)):
        for bone, share in shares.items():
            turn = _about("x", share * bend) @ _about("y", share * side) @ _about("z", share * twist)
            rotations[:, body.bone(bone)] = turn


def _turn_leg(body: Body, rest: Tensor, rotations: Tensor, posture: Posture, side: Side) -> None:
    """Hip, knee and ankle of one side."""
    thigh, shin, foot = side.bones(body, LEG)
    thigh_down, shin_down = _straight_down(rest, thigh, shin), _straight_down(rest, shin, foot)
    hip = (
        _about("x", -posture.hip_flexion[:, side.column])
        @ _about("y", -side.outward * posture.hip_abduction[:, side.column])
        @ _about("z", side.outward * posture.hip_rotation[:, side.column])
    )
    rotations[:, thigh] = hip @ thigh_down
    rotations[:, shin] = thigh_down.mT @ _about("x", posture.knee_flexion[:, side.column]) @ shin_down
    rotations[:, foot] = shin_down.mT @ _about("x", -posture.ankle_flexion[:, side.column])


def _straight_down(rest: Tensor, bone: int, following: int) -> Tensor:
    """Rotation that lets a bone hang straight down: (batch, 3, 3)."""
    down = torch.tensor([0.0, 0.0, -1.0], dtype=rest.dtype)
    return rotation_between(rest[:, following] - rest[:, bone], down)


def _turn_shoulder(body: Body, rotations: Tensor, arms: Arms, side: Side) -> None:
    """The shoulder girdle rises with a lifted arm and comes forward with an arm that reaches."""
    lifted = (arms.elevation[:, side.column] - SHOULDER_RISE_FROM).clamp(min=0)
    forward = torch.cos(torch.deg2rad(arms.azimuth[:, side.column]))
    rise, advance = SHOULDER_RISE * lifted, SHOULDER_ADVANCE * lifted * forward
    clavicle = body.bone(f"clavicle.{side.name}")
    rotations[:, clavicle] = _about("z", -side.outward * advance) @ _about("y", -side.outward * rise)


@dataclass(frozen=True)
class _ArmSolver:
    """Turns the shoulder, elbow and wrist of one side, which hang from bones in a known pose."""

    body: Body
    rest: Tensor  # bone heads (batch, bones, 3)
    orientations: Tensor  # (batch, bones, 3, 3)
    heads: Tensor  # (batch, bones, 3)
    side: Side

    def turn(self, rotations: Tensor, arms: Arms) -> None:
        """Write an arm's three rotations."""
        arm, outward = combine(lambda values: values[:, self.side.column], arms), self.side.outward
        upper, fore, hand = self.side.bones(self.body, ARM)
        upper_down, fore_down = _straight_down(self.rest, upper, fore), _straight_down(self.rest, fore, hand)
        azimuth = outward * arm.azimuth
        lift = _about("z", azimuth) @ _about("x", -arm.elevation) @ _about("z", -azimuth)
        aimed_swing, aimed_elbow = self._by_target(arm)
        swing = torch.where(arm.aimed[:, None, None], aimed_swing, lift @ _about("z", outward * arm.twist))
        elbow = torch.where(arm.aimed, aimed_elbow, arm.elbow)

        chest, shoulder = self.body.bone(CHEST), self.body.parents[upper]
        in_shoulder = self.orientations[:, shoulder].mT @ self.orientations[:, chest]
        pronation = _about("z", -outward * arm.pronation)
        rotations[:, upper] = in_shoulder @ swing @ upper_down
        rotations[:, fore] = upper_down.mT @ _about("x", -elbow) @ pronation @ fore_down
        wrist = _about("y", outward * arm.wrist_flexion) @ _about("x", -arm.wrist_deviation)
        rotations[:, hand] = fore_down.mT @ wrist @ fore_down

    def _by_target(self, arm: Arms) -> tuple[Tensor, Tensor]:
        """Upper arm in the chest's frame (batch, 3, 3) and elbow flexion (batch,) for a wrist at its target."""
        upper, fore, hand = self.side.bones(self.body, ARM)
        upper_length = (self.rest[:, fore] - self.rest[:, upper]).norm(dim=-1)
        fore_length = (self.rest[:, hand] - self.rest[:, fore]).norm(dim=-1)
        to_chest = self.orientations[:, self.body.bone(CHEST)].mT
        reach = (to_chest @ (self._target(arm) - self.heads[:, upper])[..., None])[..., 0]

        sharpest = torch.deg2rad(torch.tensor(ELBOW_LIMIT[1], dtype=self.rest.dtype))
        shortest = (upper_length**2 + fore_length**2 + 2 * upper_length * fore_length * torch.cos(sharpest)).sqrt()
        distance = reach.norm(dim=-1).clamp(min=shortest, max=LONGEST_REACH * (upper_length + fore_length))
        towards = torch.nn.functional.normalize(reach, dim=-1)
        at_shoulder = (upper_length**2 + distance**2 - fore_length**2) / (2 * upper_length * distance)
        cosine = (distance**2 - upper_length**2 - fore_length**2) / (2 * upper_length * fore_length)

        # The elbow tends down, outward with the swivel, and always a little back.
        swivel = torch.deg2rad(arm.swivel)
        tends_to = (self.side.outward * torch.sin(swivel), torch.full_like(swivel, 0.15), -torch.cos(swivel))
        aside = _perpendicular(torch.stack(tends_to, dim=-1), towards)
        along = at_shoulder[:, None] * towards + (1 - at_shoulder**2).sqrt()[:, None] * aside
        folds_to = _perpendicular(towards, along)
        # Columns are where an arm hanging straight has x (the elbow's hinge), y (away from where it folds) and z (up).
        swing = torch.stack([torch.linalg.cross(folds_to, along), -folds_to, -along], dim=-1)
        return swing, torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))

    def _target(self, arm: Arms) -> Tensor:
        """Where the wrist of an aimed arm should be, in the world: (batch, 3)."""
        names = [f"{name}.{self.side.name}" if index == THIGH else name for index, name in enumerate(TARGET_BONES)]
        bone = torch.tensor([self.body.bone(name) for name in names])[arm.target_bone]
        people = torch.arange(len(bone))
        trunk = (self.rest[:, self.body.bone("neck01")] - self.rest[:, self.body.bone("root")]).norm(dim=-1)
        outward, forward, up = arm.target.unbind(-1)
        offset = torch.stack([self.side.outward * outward, -forward, up], dim=-1) * (trunk / TARGET_TRUNK_M)[:, None]
        return self.heads[people, bone] + (self.orientations[people, bone] @ offset[..., None])[..., 0]


def _perpendicular(vector: Tensor, direction: Tensor) -> Tensor:
    """The part of `vector` (batch, 3) at right angles to the unit vector `direction`, of length 1."""
    rejected = vector - (vector * direction).sum(-1, keepdim=True) * direction
    return torch.nn.functional.normalize(rejected, dim=-1)


def retarget(body: Body, skeleton: RecordedSkeleton, motion: dict[str, np.ndarray]) -> Tensor:
    """Rotations for `Body.pose` that follow a recorded motion: (frames, body bones, 3, 3), float64.

    A recorded bone turns a bone of the body by the same rotation in the world; limbs are first turned from the body's
    rest direction to the recorded skeleton's, so that both point the same way.
    """
    if missing := sorted(set(BODY_BONES) - set(skeleton.names)):
        raise ValueError(f"the recorded skeleton must have the bones {sorted(BODY_BONES)}, missing are {missing}")
    recorded = torch.from_numpy(world_rotations(skeleton, motion))
    directions, rest = torch.from_numpy(skeleton.directions), body.bone_rest.double().cpu()
    turned: dict[int, Tensor] = {}
    for name, target in BODY_BONES.items():
        bone = skeleton.names.index(name)
        rotation = TO_BODY_AXES @ recorded[:, bone] @ TO_BODY_AXES.mT
        part, _, side = target.partition(".")
        if part in LIMBS:
            along = rest[body.bone(f"{LIMBS[part]}.{side}")] - rest[body.bone(target)]
            rotation = rotation @ rotation_between(along, TO_BODY_AXES @ directions[bone])
        turned[body.bone(target)] = rotation
    rotations = []
    for bone, parent in enumerate(body.parents):
        turned.setdefault(bone, turned[max(parent, 0)])
        rotations.append(turned[bone] if parent < 0 else turned[parent].mT @ turned[bone])
    return torch.stack(rotations, dim=1)


class MotionLibrary:
    """Every `stride`-th frame of the motions in a folder and below, as rotations of the body; CMU's are 1/120 s apart.

    The `*.amc` files beside an `*.asf` file belong to it.
    """

    def __init__(self, body: Body, folder: Path | str, stride: int = 12) -> None:
        rotations, self.clips, clip_of_frame = [], [], []
        for skeleton_file in sorted(Path(folder).rglob("*.asf")):
            beside = skeleton_file.parent
            if len(list(beside.glob("*.asf"))) > 1:
                raise ValueError(f"{beside} must hold one *.asf file, so that its *.amc files belong to it")
            for motion_file in sorted(beside.glob("*.amc")):
                frames = retarget(body, read_asf(skeleton_file), read_amc(motion_file, stride))
                clip_of_frame += [len(self.clips)] * len(frames)
                self.clips.append(motion_file.stem)
                rotations.append(frames.float())
        if not rotations:
            raise ValueError(f"{folder} must hold *.asf files with *.amc files beside them, found none")
        self.rotations = torch.cat(rotations)  # (frames, bones, 3, 3)
        self.clip_of_frame = torch.tensor(clip_of_frame)  # (frames,)

    def __len__(self) -> int:
        return len(self.rotations)

    def draw(self, draws: Draws) -> tuple[Tensor, list[str]]:
        """A frame for each person: rotations (people, bones, 3, 3), float64, and the names of their clips."""
        frame = (draws.uniform(0, 1) * len(self)).long()
        return self.rotations[frame].double(), [self.clips[clip] for clip in self.clip_of_frame[frame].tolist()]
