"""Gestures: what the arms do.

An arm is given by angles, or by where its wrist goes (`Arms.target`), which the pose solves by inverse kinematics.

Shapes: people; sides are (left, right).

Angles are in degrees, in the frame of the chest. Elevation lifts the arm from hanging (0) over level (90) to straight
up (180); azimuth says in which direction, from forward (0) over sideways (90), negative across the body. Twist turns
the upper arm about itself, outward positive; at twist 0 the elbow of a forward arm folds upward. Pronation turns the
palm of a hanging arm from the thigh to the back; flexion bends the hand towards its palm, deviation towards the thumb.

Targets are in metres for a person 1.7 m tall, in the rest axes of a bone and from its head: (outward, forward, up),
outward being away from the body's middle on either side.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .postures import Draws, Posture

ELBOW_LIMIT = (0.0, 145.0)


@dataclass(frozen=True)
class Arms:
    """Angles of both arms, or where their wrists go.

    Args:
        elevation, azimuth, twist, elbow: `(people, 2)`, degrees; they count where `aimed` is false.
        pronation, wrist_flexion, wrist_deviation: `(people, 2)`, degrees.
        aimed: `(people, 2)` bool, whether the wrist goes to `target`.
        target: `(people, 2, 3)`, metres.
        target_bone: `(people, 2)`, index into `TARGET_BONES`.
        swivel: `(people, 2)`, degrees: where the elbow of an aimed arm points, from down (0) to sideways (90).
    """

    elevation: Tensor
    azimuth: Tensor
    twist: Tensor
    elbow: Tensor
    pronation: Tensor
    wrist_flexion: Tensor
    wrist_deviation: Tensor
    aimed: Tensor
    target: Tensor
    target_bone: Tensor
    swivel: Tensor

    def where(self, chosen: Tensor, other: "Arms") -> "Arms":
        """These arms where `chosen` (people, 2) bool, those of `other` elsewhere."""
        merged = {}
        for name in (field.name for field in fields(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            merged[name] = torch.where(chosen.reshape(chosen.shape + (1,) * (mine.ndim - 2)), mine, theirs)
        return Arms(**merged)

    def mirrored(self, people: Tensor) -> "Arms":
        """The same arms with left and right exchanged for the chosen people (people,) bool."""
        other = Arms(**{field.name: getattr(self, field.name).flip(1) for field in fields(self)})
        return other.where(people[:, None].expand_as(self.elbow), self)


# What a target is placed relative to; the thigh is the one on the hand's own side.
TARGET_BONES = ("root", "spine01", "head", "upperleg01")
PELVIS, CHEST, HEAD, THIGH = range(len(TARGET_BONES))


def _arms(draws: Draws, elevation: Tensor, azimuth: Tensor, twist: Tensor, elbow: Tensor) -> Arms:
    """Arms given by their angles, hands loose."""
    return Arms(
        elevation=elevation,
        azimuth=azimuth,
        twist=twist,
        elbow=elbow.clamp(*ELBOW_LIMIT),
        pronation=draws.sides_normal(0, 25),
        wrist_flexion=draws.sides_normal(0, 14),
        wrist_deviation=draws.sides_normal(0, 8),
        aimed=torch.zeros_like(elevation, dtype=torch.bool),
        target=elevation.new_zeros(*elevation.shape, 3),
        target_bone=torch.zeros_like(elevation, dtype=torch.int64),
        swivel=torch.zeros_like(elevation),
    )


Range = tuple[float, float]


def _aimed(draws: Draws, bone: int, box: tuple[Range, Range, Range], swivel: Range) -> Arms:
    """Arms whose wrists go to a point of a box (outward, forward, up) of metres from a bone."""
    zero = torch.zeros_like(draws.numbers[:, :2])
    loose = _arms(draws, zero, zero, zero, zero)
    target = torch.stack([draws.sides(*extent) for extent in box], dim=-1)
    return replace(
        loose,
        aimed=torch.ones_like(loose.aimed),
        target=target,
        target_bone=torch.full_like(loose.target_bone, bone),
        swivel=draws.sides(*swivel),
    )


def hang(draws: Draws, posture: Posture) -> Arms:
    """Hanging arms, swinging with the step and staying under the shoulders of someone who bends over."""
    gravity = (posture.pelvis_pitch + posture.spine_bend).clamp(min=0, max=90) * draws.uniform(0.4, 1)
    forward = posture.arm_swing + draws.sides_normal(2, 6) + gravity[:, None]
    outward = draws.sides(7, 16)
    elevation = torch.sqrt(forward**2 + outward**2)
    azimuth = torch.rad2deg(torch.atan2(outward, forward))
    elbow = draws.sides(5, 32) + 0.6 * posture.arm_swing.clamp(min=0)
    return _arms(draws, elevation, azimuth, draws.sides_normal(-20, 12), elbow)


def talk(draws: Draws, posture: Posture) -> Arms:
    """Forearms raised before the body, as people move them in talk."""
    return _arms(draws, draws.sides(5, 50), draws.sides(0, 75), draws.sides_normal(-20, 22), draws.sides(40, 115))


def reach(draws: Draws, posture: Posture) -> Arms:
    """Pointing, reaching or giving directions, the arm nearly straight."""
    elbow = draws.sides(0, 1) ** 1.5 * 65
    return _arms(draws, draws.sides(40, 135), draws.sides(-20, 110), draws.sides_normal(0, 25), elbow)


def reach_up(draws: Draws, posture: Posture) -> Arms:
    """Arms above the shoulders: reaching for a shelf, stretching, cheering."""
    elbow = draws.sides(0, 1) ** 1.3 * 90
    return _arms(draws, draws.sides(120, 172), draws.sides(0, 95), draws.sides_normal(20, 25), elbow)


def wave(draws: Draws, posture: Posture) -> Arms:
    """Greeting: the forearm raised beside the head."""
    return _arms(draws, draws.sides(50, 125), draws.sides(25, 95), draws.sides(45, 85), draws.sides(35, 125))


def phone(draws: Draws, posture: Posture) -> Arms:
    """A hand at the ear."""
    at_ear = _aimed(draws, HEAD, ((0.12, 0.17), (0.04, 0.13), (-0.17, -0.07)), (5, 65))
    return replace(at_ear, wrist_flexion=draws.sides(-30, 0))


def eat(draws: Draws, posture: Posture) -> Arms:
    """A hand at the mouth: eating, drinking, smoking."""
    return _aimed(draws, HEAD, ((-0.01, 0.12), (0.18, 0.30), (-0.20, -0.05)), (5, 60))


def photograph(draws: Draws, posture: Posture) -> Arms:
    """Both hands before the face, holding something up."""
    return _aimed(draws, HEAD, ((0.04, 0.13), (0.24, 0.42), (-0.16, 0.06)), (10, 60))


def touch_head(draws: Draws, posture: Posture) -> Arms:
    """A hand on the head or behind the neck."""
    return _aimed(draws, HEAD, ((0.13, 0.22), (-0.06, 0.12), (0.0, 0.20)), (60, 120))


def cross_arms(draws: Draws, posture: Posture) -> Arms:
    """Arms folded over the chest, the right one outside."""
    folded = _aimed(draws, CHEST, ((-0.06, 0.01), (0.20, 0.27), (-0.12, 0.0)), (-10, 25))
    outside = torch.tensor([0.0, 0.075], dtype=torch.float64)
    target = folded.target + torch.stack([0 * outside, outside, 0.5 * outside], dim=-1)
    return replace(folded, target=target, wrist_flexion=draws.sides(10, 45))


def join_hands(draws: Draws, posture: Posture) -> Arms:
    """Hands together before the body, from the lap to the breast."""
    joined = _aimed(draws, CHEST, ((0.03, 0.10), (0.0, 0.02), (-0.02, 0.02)), (10, 60))
    height, distance = draws.uniform(-0.36, 0.02), draws.uniform(0.20, 0.32)
    place = torch.stack([torch.zeros_like(height), distance, height], dim=-1)
    return replace(joined, target=joined.target + place[:, None])


def hold(draws: Draws, posture: Posture) -> Arms:
    """Hands before the body as if they carried or worked on something."""
    return _aimed(draws, CHEST, ((0.06, 0.24), (0.22, 0.45), (-0.32, 0.10)), (5, 60))


def hands_on_hips(draws: Draws, posture: Posture) -> Arms:
    """Arms akimbo."""
    akimbo = _aimed(draws, PELVIS, ((0.20, 0.28), (-0.05, 0.05), (0.07, 0.18)), (75, 110))
    return replace(akimbo, wrist_flexion=draws.sides(-80, -45))


def hands_behind(draws: Draws, posture: Posture) -> Arms:
    """Hands behind the back."""
    return _aimed(draws, PELVIS, ((0.03, 0.16), (-0.24, -0.16), (0.0, 0.14)), (30, 80))


def hands_on_thighs(draws: Draws, posture: Posture) -> Arms:
    """Hands on the thighs or on the knees."""
    resting = _aimed(draws, THIGH, ((-0.02, 0.06), (0.12, 0.17), (-0.34, -0.14)), (10, 60))
    return replace(resting, pronation=draws.sides(50, 90), wrist_flexion=draws.sides(-60, -20))


def support(draws: Draws, posture: Posture) -> Arms:
    """Arms that carry the trunk of someone on all fours."""
    elevation = (posture.pelvis_pitch + posture.spine_bend)[:, None] + draws.sides_normal(0, 14)
    return _arms(draws, elevation, draws.sides(2, 18), draws.sides_normal(-15, 15), draws.sides(0, 25))


def anything(draws: Draws, posture: Posture) -> Arms:
    """Any angle a shoulder and an elbow allow."""
    elbow = draws.sides(0, 1) ** 1.3 * 140
    return _arms(draws, draws.sides(0, 170), draws.sides(-30, 125), draws.sides(-60, 80), elbow)


GESTURES: dict[str, tuple[Callable[[Draws, Posture], Arms], float]] = {
    "arms hanging": (hang, 1.0),
    "talking": (talk, 0.65),
    "reaching": (reach, 0.3),
    "reaching up": (reach_up, 0.5),
    "waving": (wave, 0.2),
    "phoning": (phone, 0.05),
    "eating": (eat, 0.15),
    "photographing": (photograph, 0.7),
    "touching the head": (touch_head, 0.3),
    "arms crossed": (cross_arms, 1.0),
    "hands joined": (join_hands, 1.0),
    "holding": (hold, 0.75),
    "hands on hips": (hands_on_hips, 0.6),
    "hands behind": (hands_behind, 1.0),
    "hands on thighs": (hands_on_thighs, 0.8),
    "on hands": (support, 1.0),
    "arms anywhere": (anything, 1.0),
}
"""What the arms do, and how often both hands take part; a hand that does not is idle."""
