"""Gestures: what the arms do, by angles, or by where their wrists go, which `posing` solves by inverse kinematics.

Shapes: people; sides are (left, right).

Angles are in degrees, in the frame of the chest. Elevation lifts the arm from hanging (0) over level (90) to straight
up (180); azimuth says in which direction, from forward (0) over sideways (90), negative across the body. Twist turns
the upper arm about itself, outward positive; at twist 0 the elbow of a forward arm folds upward. Pronation turns the
palm of a hanging arm from the thigh to the back; flexion bends the hand towards its palm, deviation towards the thumb.

Targets are in metres for a person 1.7 m tall, in the rest axes of a bone and from its head: (outward, forward, up),
outward being away from the body's middle on either side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .postures import Draws, Posture

ELBOW_LIMIT = (0.0, 145.0)
# What a target is placed relative to; the thigh is the one on the hand's own side.
TARGET_BONES = ("root", "spine01", "head", "upperleg01")
PELVIS, CHEST, HEAD, THIGH = range(len(TARGET_BONES))


@dataclass
class Arms:
    """Angles of both arms, `(people, 2)` degrees, or where their wrists go."""

    elevation: Tensor  # this and the next three count where `aimed` is false
    azimuth: Tensor
    twist: Tensor
    elbow: Tensor
    pronation: Tensor
    wrist_flexion: Tensor
    wrist_deviation: Tensor
    aimed: Tensor  # bool, whether the wrist goes to `target`
    target: Tensor  # (people, 2, 3) metres
    target_bone: Tensor  # index into `TARGET_BONES`
    swivel: Tensor  # where the elbow of an aimed arm points, from down (0) to sideways (90)


Gesture = Callable[[Draws, Posture], Arms]
Range = tuple[float, float]
Spread = Range | Callable[[Draws], Tensor]  # an angle evenly between two bounds, or dealt otherwise: (people, 2)


def about(mean: float, deviation: float) -> Spread:
    """Angles that are normal."""
    return lambda draws: draws.sides_normal(mean, deviation)


def small(highest: float, power: float) -> Spread:
    """Angles from 0 to the highest; the larger the power, the rarer the large ones."""
    return lambda draws: draws.sides(0, 1) ** power * highest


def _deal(draws: Draws, spread: Spread) -> Tensor:
    return spread(draws) if callable(spread) else draws.sides(*spread)


def _loose(draws: Draws, elevation: Tensor, azimuth: Tensor, twist: Tensor, elbow: Tensor) -> Arms:
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


def angled(**angles: Spread) -> Gesture:
    """Arms by their elevation, azimuth, twist and elbow, which are dealt in the order they are written in."""
    return lambda draws, posture: _loose(draws, **{name: _deal(draws, spread) for name, spread in angles.items()})


def aim(bone: int, box: tuple[Range, Range, Range], swivel: Range, **hand: Spread) -> Gesture:
    """Arms whose wrists go to a point of a box (outward, forward, up) of metres from a bone."""

    def draw(draws: Draws, posture: Posture) -> Arms:
        zero = torch.zeros_like(draws.numbers[:, :2])
        arms = _loose(draws, zero, zero, zero, zero)
        arms.aimed = torch.ones_like(arms.aimed)
        arms.target = torch.stack([draws.sides(*extent) for extent in box], dim=-1)
        arms.target_bone = torch.full_like(arms.target_bone, bone)
        arms.swivel = draws.sides(*swivel)
        for name, spread in hand.items():
            setattr(arms, name, _deal(draws, spread))
        return arms

    return draw


def hang(draws: Draws, posture: Posture) -> Arms:
    """Hanging arms, swinging with the step and staying under the shoulders of someone who bends over."""
    gravity = (posture.pelvis_pitch + posture.spine_bend).clamp(min=0, max=90) * draws.uniform(0.4, 1)
    forward = posture.arm_swing + draws.sides_normal(2, 6) + gravity[:, None]
    outward = draws.sides(7, 16)
    elevation = torch.sqrt(forward**2 + outward**2)
    azimuth = torch.rad2deg(torch.atan2(outward, forward))
    elbow = draws.sides(5, 32) + 0.6 * posture.arm_swing.clamp(min=0)
    return _loose(draws, elevation, azimuth, draws.sides_normal(-20, 12), elbow)


def cross_arms(draws: Draws, posture: Posture) -> Arms:
    """Arms folded over the chest, the right one outside."""
    arms = aim(CHEST, ((-0.06, 0.01), (0.20, 0.27), (-0.12, 0.0)), (-10, 25), wrist_flexion=(10, 45))(draws, posture)
    outside = torch.tensor([0.0, 0.075], dtype=torch.float64)
    arms.target = arms.target + torch.stack([0 * outside, outside, 0.5 * outside], dim=-1)
    return arms


def join_hands(draws: Draws, posture: Posture) -> Arms:
    """Hands together before the body, from the lap to the breast."""
    arms = aim(CHEST, ((0.03, 0.10), (0.0, 0.02), (-0.02, 0.02)), (10, 60))(draws, posture)
    height, distance = draws.uniform(-0.36, 0.02), draws.uniform(0.20, 0.32)
    arms.target = arms.target + torch.stack([torch.zeros_like(height), distance, height], dim=-1)[:, None]
    return arms


def support(draws: Draws, posture: Posture) -> Arms:
    """Arms that carry the trunk of someone on all fours."""
    elevation = (posture.pelvis_pitch + posture.spine_bend)[:, None] + draws.sides_normal(0, 14)
    return _loose(draws, elevation, draws.sides(2, 18), draws.sides_normal(-15, 15), draws.sides(0, 25))


ON_HIPS, ON_THIGHS = ((0.2, 0.28), (-0.05, 0.05), (0.07, 0.18)), ((-0.02, 0.06), (0.12, 0.17), (-0.34, -0.14))
# What the arms do, and how often both hands take part; a hand that does not is idle.
GESTURES: dict[str, tuple[Gesture, float]] = {
    "arms hanging": (hang, 1.0),
    "talking": (angled(elevation=(5, 50), azimuth=(0, 75), twist=about(-20, 22), elbow=(40, 115)), 0.65),
    "reaching": (angled(elbow=small(65, 1.5), elevation=(40, 135), azimuth=(-20, 110), twist=about(0, 25)), 0.3),
    "reaching up": (angled(elbow=small(90, 1.3), elevation=(120, 172), azimuth=(0, 95), twist=about(20, 25)), 0.5),
    "waving": (angled(elevation=(50, 125), azimuth=(25, 95), twist=(45, 85), elbow=(35, 125)), 0.2),
    "phoning": (aim(HEAD, ((0.12, 0.17), (0.04, 0.13), (-0.17, -0.07)), (5, 65), wrist_flexion=(-30, 0)), 0.05),
    "eating": (aim(HEAD, ((-0.01, 0.12), (0.18, 0.30), (-0.20, -0.05)), (5, 60)), 0.15),
    "photographing": (aim(HEAD, ((0.04, 0.13), (0.24, 0.42), (-0.16, 0.06)), (10, 60)), 0.7),
    "touching the head": (aim(HEAD, ((0.13, 0.22), (-0.06, 0.12), (0.0, 0.20)), (60, 120)), 0.3),
    "arms crossed": (cross_arms, 1.0),
    "hands joined": (join_hands, 1.0),
    "holding": (aim(CHEST, ((0.06, 0.24), (0.22, 0.45), (-0.32, 0.10)), (5, 60)), 0.75),
    "hands on hips": (aim(PELVIS, ON_HIPS, (75, 110), wrist_flexion=(-80, -45)), 0.6),
    "hands behind": (aim(PELVIS, ((0.03, 0.16), (-0.24, -0.16), (0.0, 0.14)), (30, 80)), 1.0),
    "hands on thighs": (aim(THIGH, ON_THIGHS, (10, 60), pronation=(50, 90), wrist_flexion=(-60, -20)), 0.8),
    "on hands": (support, 1.0),
    "arms anywhere": (angled(elbow=small(140, 1.3), elevation=(0, 170), azimuth=(-30, 125), twist=(-60, 80)), 1.0),
}
