"""People in natural poses: an activity, joint angles within limits, no body part inside another, feet on the ground.

Shapes: batch (people), bones, vertices, joints (17); sides are (left, right). Poses are worked out in float64 on the
CPU, so that whether a pose is taken never hangs on a rounding error; people are skinned on the body's device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from .body import Body
from .collision import CapsuleModel
from .draws import Draws
from .gestures import BOTH_HANDS, GESTURES, Arms
from .posing import Pose, bone_rotations
from .postures import POSTURES, Posture
from .presets import PRESETS, Activity, Preset

MAX_ATTEMPTS = 20
# Flesh gives way, and hands that hold each other touch.
ALLOWED_PENETRATION_M = 0.02
SHAPE_JITTER = 0.2
METRES_TO_MM = 1000.0


@dataclass(frozen=True)
class People:
    """People standing near the origin of a z-up world.

    Args:
        vertices: `(batch, vertices, 3)`, metres; the lowest is at z = 0 unless the person jumps.
        joints: `(batch, 17, 3)`, metres, Human3.6M's.
        activity: What each person does, as "sitting, phoning".
    """

    vertices: Tensor
    joints: Tensor
    activity: list[str]


@dataclass(frozen=True)
class Poses:
    """What it takes to pose people: the arguments of `Body.pose`, and how far they are off the ground.

    Args:
        shape: `(batch, components)`, float64.
        rotations: `(batch, bones, 3, 3)`, float64.
        lift: `(batch,)`, metres.
        penetration: `(batch,)`, metres: how deep the worst pair of body parts overlaps, negative if none does.
        activity: One name per person.
    """

    shape: Tensor
    rotations: Tensor
    lift: Tensor
    penetration: Tensor
    activity: list[str]


def sample_people(body: Body, seeds: Sequence[int], preset: str = "everyday") -> People:
    """People in random shapes and poses, one for each seed and the same whatever other seeds are asked for.

    Args:
        body: The body model; the result lives on its device.
        seeds: One non-negative whole number per person.
        preset: "everyday", adults mostly upright, or "everything", with children, free limbs, crawling, lying, jumping.

    Returns:
        The people, in metres, on the ground.

    Raises:
        ValueError: The preset is unknown, there is no seed, or a seed is negative.
    """
    poses = sample_poses(body, seeds, preset)
    return place_people(body, poses)


def place_people(body: Body, poses: Poses) -> People:
    """Skin poses and set them on the ground, the pelvis above the origin."""
    posed = body.pose(poses.shape.float().to(body.device), poses.rotations.float().to(body.device))
    origin = posed.joints[:, 0].clone()  # (batch, 3)
    origin[:, 2] = posed.vertices[..., 2].amin(dim=1) - poses.lift.float().to(body.device)
    return People(posed.vertices - origin[:, None], posed.joints - origin[:, None], poses.activity)


def sample_skeletons(body: Body, seeds: Sequence[int], preset: str = "everyday") -> Tensor:
    """The joints of `sample_people` without their surface, relative to the pelvis: (batch, 17, 3), mm, z up.

    Raises:
        ValueError: As `sample_people`.
    """
    poses = sample_poses(body, seeds, preset)
    joints = body.joints(poses.shape.float().to(body.device), poses.rotations.float().to(body.device))
    return (joints - joints[:, :1]) * METRES_TO_MM


def sample_poses(body: Body, seeds: Sequence[int], preset: str = "everyday") -> Poses:
    """Shapes and bone rotations of random people, for each the first of 20 attempts that does not overlap.

    Where all of them overlap, the least overlapping is taken.

    Raises:
        ValueError: As `sample_people`.
    """
    if preset not in PRESETS:
        raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, got {preset!r}")
    if len(seeds) == 0 or min(seeds) < 0:
        raise ValueError(f"`seeds` must be one or more non-negative whole numbers, got {list(seeds)}")
    return _poser(body).sample([int(seed) for seed in seeds], PRESETS[preset])


@lru_cache(maxsize=4)
def _poser(body: Body) -> "Poser":
    """The poser of a body, which measures the body once."""
    return Poser(body)


@dataclass(frozen=True)
class _Traits:
    """What stays the same over all attempts at a person: shape, activity, heading in radians, which side is which."""

    shape: Tensor  # (people, components)
    activity: Tensor  # (people,)
    heading: Tensor  # (people,)
    mirrored: Tensor  # (people,) bool

    def of(self, people: Tensor) -> "_Traits":
        """The traits of some people."""
        return _Traits(self.shape[people], self.activity[people], self.heading[people], self.mirrored[people])


class Poser:
    """Draws poses of a body and refuses those in which it runs into itself."""

    def __init__(self, body: Body) -> None:
        """Measure the body's capsules and how tall its sampled people are."""
        self.body = body
        self.capsules = CapsuleModel(body)
        self.samples = body.shape_samples.double().cpu()
        heights = [body.rest_surface(chunk)[..., 2] for chunk in body.shape_samples.split(50)]
        self.stature_m = torch.cat([height.amax(dim=1) - height.amin(dim=1) for height in heights]).cpu()

    def sample(self, seeds: list[int], preset: Preset) -> Poses:
        """One pose for each seed; one that overlaps is drawn again, the same activity in the same shape."""
        traits = self._traits(Draws.from_seeds(seeds, attempt=0), preset)
        best = self._attempt(Draws.from_seeds(seeds, attempt=1), traits, preset.activities)
        for attempt in range(2, MAX_ATTEMPTS + 1):
            bad = (best.penetration > ALLOWED_PENETRATION_M).nonzero()[:, 0]
            if len(bad) == 0:
                break
            draws = Draws.from_seeds([seeds[person] for person in bad.tolist()], attempt)
            retry = self._attempt(draws, traits.of(bad), preset.activities)
            better = retry.penetration < best.penetration[bad]
            for name in ("rotations", "lift", "penetration"):
                getattr(best, name)[bad[better]] = getattr(retry, name)[better]
        return best

    def _traits(self, draws: Draws, preset: Preset) -> _Traits:
        """Who a person is and what it does."""
        shortest, tallest = preset.stature_m
        suitable = ((self.stature_m >= shortest) & (self.stature_m <= tallest)).nonzero()[:, 0]
        person = suitable[(draws.uniform(0, 1) * len(suitable)).long()]
        return _Traits(
            shape=self.samples[person] + SHAPE_JITTER * draws.standard_normal(self.samples.shape[1]),
            activity=draws.choice([activity.weight for activity in preset.activities]),
            heading=draws.uniform(-torch.pi, torch.pi),
            mirrored=draws.chance(0.5),
        )

    def _attempt(self, draws: Draws, traits: _Traits, activities: tuple[Activity, ...]) -> Poses:
        """One try at the pose of each person."""
        posture, arms = _limbs(draws, traits.activity, activities)
        posture, arms = posture.mirrored(traits.mirrored), arms.mirrored(traits.mirrored)
        rest = self.body.rest_bones(traits.shape)
        rotations = bone_rotations(self.body, rest, Pose(posture, arms, traits.heading))
        orientations, heads = self.body.forward_kinematics(rest, rotations)
        return Poses(
            shape=traits.shape,
            rotations=rotations,
            lift=posture.lift.clone(),
            penetration=self.capsules.penetration(traits.shape, rest, orientations, heads),
            activity=[activities[index].name for index in traits.activity.tolist()],
        )


def _limbs(draws: Draws, activity: Tensor, activities: tuple[Activity, ...]) -> tuple[Posture, Arms]:
    """Angles of every person's limbs, each posture and gesture worked out for those who take it."""
    chosen = [activities[index] for index in activity.tolist()]
    posture = _gather([one.posture for one in chosen], lambda name, people: POSTURES[name](draws.of(people)))
    # Postures use at most the first numbers of a hand; gestures start behind them, wherever a posture stopped.
    gesture_draws = draws.skip(POSTURE_NUMBERS)
    gesture = _gather(
        [one.gesture for one in chosen],
        lambda name, people: GESTURES[name](gesture_draws.of(people), _people_of(posture, people)),
    )
    idle_draws = draws.skip(POSTURE_NUMBERS + GESTURE_NUMBERS)
    idle = _gather(
        [one.idle for one in chosen],
        lambda name, people: GESTURES[name](idle_draws.of(people), _people_of(posture, people)),
    )
    both = idle_draws.skip(GESTURE_NUMBERS).uniform(0, 1) < torch.tensor([BOTH_HANDS[one.gesture] for one in chosen])
    takes_part = torch.stack([both, torch.ones_like(both)], dim=1)
    return posture.within_limits(), gesture.where(takes_part, idle)


POSTURE_NUMBERS = 60
GESTURE_NUMBERS = 30
Angles = TypeVar("Angles", Posture, Arms)


def _gather(names: list[str], make: Callable[[str, Tensor], Angles]) -> Angles:
    """Make each kind of angles for the people who have that name, and put the people back in order."""
    groups: dict[str, list[int]] = {}
    for person, name in enumerate(names):
        groups.setdefault(name, []).append(person)
    parts = [make(name, torch.tensor(people)) for name, people in groups.items()]
    order = torch.tensor([person for people in groups.values() for person in people]).argsort()
    kind = type(parts[0])
    return kind(**{f.name: torch.cat([getattr(part, f.name) for part in parts])[order] for f in fields(kind)})


def _people_of(posture: Posture, people: Tensor) -> Posture:
    """The posture of some people."""
    return Posture(**{field.name: getattr(posture, field.name)[people] for field in fields(posture)})
