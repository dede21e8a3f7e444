"""People in natural poses: an activity, joint angles within limits, no body part inside another, feet on the ground.

Shapes: batch (people), bones, vertices, joints (17); sides are (left, right). Poses are worked out in float64 on the
CPU, so that whether a pose is taken never hangs on a rounding error; people are skinned on the body's device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from .body import Body, CapsuleModel
from .gestures import GESTURES, Arms
from .posing import MotionLibrary, bone_rotations, rotation_about
from .postures import Draws, Posture, choose, combine, draw_posture, mirrored, some_of

# A seed's hands of random numbers: who the person is, then 20 attempts at the pose. Later ones are made in two rounds,
# each at once for everybody who still needs them.
TRAITS_HAND, FIRST_ATTEMPT = 0, 1
RETRIES = (range(2, 6), range(6, 21))
ALLOWED_PENETRATION_M = 0.02  # flesh gives way, and hands that hold each other touch
SHAPE_JITTER = 0.2
MOTION_SHARE = 0.5  # of the people, where there are recorded motions
# Which of a person's random numbers the parts of a pose take.
POSTURE_NUMBERS, GESTURE_NUMBERS, IDLE_NUMBERS, OTHER_NUMBERS = map(slice, (0, 70, 110, 150), (70, 110, 150, 160))

Angles = TypeVar("Angles", Posture, Arms)


class Activity(NamedTuple):
    """A posture of the body with a gesture of the arms."""

    posture: str  # a name of `postures.POSTURES`
    gesture: str  # a name of `gestures.GESTURES`, of one arm or of both
    idle: str  # the gesture of the arm that takes no part
    weight: float  # how often it is drawn, relative to the others


class Population(NamedTuple):
    """A mixture of activities, and how tall the people are (metres)."""

    activities: tuple[Activity, ...]
    stature_m: tuple[float, float]


STANDING_OR_SEATED = {  # how often of those who stand, and of those who sit
    "hands on thighs": (0.0, 0.20),
    "arms hanging": (0.16, 0.0),
    "talking": (0.15, 0.15),
    "reaching": (0.14, 0.12),
    "reaching up": (0.05, 0.0),
    "waving": (0.08, 0.05),
    "phoning": (0.07, 0.09),
    "eating": (0.08, 0.12),
    "photographing": (0.05, 0.04),
    "touching the head": (0.03, 0.03),
    "arms crossed": (0.04, 0.05),
    "hands joined": (0.05, 0.05),
    "holding": (0.09, 0.07),
    "hands on hips": (0.04, 0.0),
    "hands behind": (0.02, 0.0),
    "arms anywhere": (0.05, 0.03),
}
UPRIGHT = {gesture: share for gesture, (share, _) in STANDING_OR_SEATED.items() if share}
SEATED = {gesture: share for gesture, (_, share) in STANDING_OR_SEATED.items() if share}
STRIDING = {**UPRIGHT, "arms hanging": 0.6}
BENT = {"arms hanging": 0.3, "reaching": 0.3, "holding": 0.15, "talking": 0.1, "hands on hips": 0.05, "phoning": 0.1}
LOW = {"hands on thighs": 0.3, "reaching": 0.2, "talking": 0.15, "holding": 0.15, "phoning": 0.1, "arms hanging": 0.1}
UNBOUND = {"arms anywhere": 0.7, "reaching": 0.1, "reaching up": 0.2}
ON_HANDS = {"on hands": 0.8, "reaching": 0.2}

# Posture: what idle arms do, what the others do, and how often people of "everyday" and of "everything" take it.
MIXTURE = {
    "standing": ("arms hanging", UPRIGHT, 0.36, 0.20),
    "walking": ("arms hanging", STRIDING, 0.20, 0.12),
    "leaning": ("arms hanging", BENT, 0.11, 0.08),
    "sitting": ("hands on thighs", SEATED, 0.22, 0.12),
    "crouching": ("hands on thighs", LOW, 0.03, 0.06),
    "kneeling": ("hands on thighs", LOW, 0.03, 0.05),
    "sitting on the ground": ("hands on thighs", LOW, 0.05, 0.06),
    "crawling": ("on hands", ON_HANDS, 0.0, 0.04),
    "lying": ("arms hanging", UNBOUND, 0.0, 0.06),
    "jumping": ("arms anywhere", UNBOUND, 0.0, 0.06),
    "moving freely": ("arms anywhere", UNBOUND, 0.0, 0.15),
}


def _activities(column: int) -> tuple[Activity, ...]:
    """Every posture with each of its gestures, postures as often as a column of the mixture says."""
    return tuple(
        Activity(posture, gesture, idle, weights[column] * share / sum(gestures.values()))
        for posture, (idle, gestures, *weights) in MIXTURE.items()
        for gesture, share in gestures.items()
        if weights[column]
    )


PRESETS = {
    "everyday": Population(_activities(0), stature_m=(1.45, 2.05)),
    "everything": Population(_activities(1), stature_m=(1.1, 2.05)),
}
PRESETS["nobody"] = PRESETS["everyday"]  # who would stand in the empty rooms


@dataclass(frozen=True)
class PosedPeople:
    """People near the origin of a z-up world, on the ground z = 0."""

    vertices: Tensor  # (batch, vertices, 3) metres; the lowest is at z = 0 unless the person jumps
    joints: Tensor  # (batch, 17, 3) metres, Human3.6M's order; the pelvis is at x = y = 0
    activity: list[str]  # as "sitting, phoning" or "motion 02_05"


@dataclass(frozen=True)
class Poses:
    """What it takes to pose people."""

    shape: Tensor  # (batch, components), float64
    rotations: Tensor  # (batch, bones, 3, 3), float64
    lift: Tensor  # (batch,) metres off the ground
    penetration: Tensor  # (batch,) metres that the worst pair of body parts overlaps, negative if none does
    activity: list[str]


def sample_people(
    body: Body, seeds: Sequence[int], preset: str = "everyday", motions: MotionLibrary | None = None
) -> PosedPeople:
    """People in random shapes and poses, one for each seed and the same whatever other seeds are asked for.

    Args:
        body: The body model; the result lives on its device.
        seeds: One non-negative whole number per person.
        preset: "everyday" is adults, mostly upright; "everything" has children, free limbs, crawling, lying, jumping.
        motions: Recorded motions that half of the people take a pose from.

    Raises:
        ValueError: The preset is unknown, there is no seed, or a seed is negative.
    """
    poses = sample_poses(body, seeds, preset, motions)
    posed = body.pose(poses.shape.float().to(body.device), poses.rotations.float().to(body.device))
    origin = posed.joints[:, 0].clone()  # (batch, 3)
    origin[:, 2] = posed.vertices[..., 2].amin(dim=1) - poses.lift.float().to(body.device)
    return PosedPeople(posed.vertices - origin[:, None], posed.joints - origin[:, None], poses.activity)


def sample_skeletons(
    body: Body, seeds: Sequence[int], preset: str = "everyday", motions: MotionLibrary | None = None
) -> Tensor:
    """The joints of `sample_people` without their surface, relative to the pelvis: (batch, 17, 3), mm, z up."""
    poses = sample_poses(body, seeds, preset, motions)
    joints = body.joints(poses.shape.float().to(body.device), poses.rotations.float().to(body.device))
    return (joints - joints[:, :1]) * 1000.0


def sample_poses(
    body: Body, seeds: Sequence[int], preset: str = "everyday", motions: MotionLibrary | None = None
) -> Poses:
    """Shapes and bone rotations of random people: the first of 20 attempts that does not overlap, or the least."""
    if preset not in PRESETS:
        raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, got {preset!r}")
    if len(seeds) == 0 or min(seeds) < 0:
        raise ValueError(f"`seeds` must be one or more non-negative whole numbers, got {list(seeds)}")
    return _poser(body).sample([int(seed) for seed in seeds], PRESETS[preset], motions)


class Poser:
    """Draws poses of a body and refuses those in which it runs into itself."""

    def __init__(self, body: Body) -> None:
        self.body, self.capsules = body, CapsuleModel(body)
        self.samples = body.shape_samples.double().cpu()
        heights = [body.rest_surface(chunk)[..., 2] for chunk in body.shape_samples.split(50)]
        self.stature_m = torch.cat([height.amax(dim=1) - height.amin(dim=1) for height in heights]).cpu()

    def sample(self, seeds: list[int], population: Population, motions: MotionLibrary | None) -> Poses:
        """One pose for each seed; one that overlaps is drawn again, the same activity in the same shape."""
        best = self._attempt(seeds, [FIRST_ATTEMPT], population, motions)
        for attempts in RETRIES:
            bad = (best.penetration > ALLOWED_PENETRATION_M).nonzero()[:, 0]
            if len(bad) == 0:
                break
            retries = self._attempt([seeds[person] for person in bad.tolist()], attempts, population, motions)
            overlap = retries.penetration.unflatten(0, (len(bad), len(attempts)))
            apart = overlap <= ALLOWED_PENETRATION_M
            taken = torch.where(apart.any(dim=1), apart.int().argmax(dim=1), overlap.argmin(dim=1))
            taken += torch.arange(len(bad)) * len(attempts)
            better = retries.penetration[taken] < best.penetration[bad]
            bad, taken = bad[better], taken[better]
            for name in ("rotations", "lift", "penetration"):  # the shape is the same
                getattr(best, name)[bad] = getattr(retries, name)[taken]
            for person, attempt in zip(bad.tolist(), taken.tolist(), strict=True):
                best.activity[person] = retries.activity[attempt]
        return best

    def _attempt(
        self, seeds: list[int], attempts: Sequence[int], population: Population, motions: MotionLibrary | None
    ) -> Poses:
        """Tries at the pose of each person, who is the same in all of them; those of the first seed come first."""
        traits, draws = Draws.from_seeds(seeds, [TRAITS_HAND] * len(attempts)), Draws.from_seeds(seeds, attempts)
        shortest, tallest = population.stature_m
        suitable = ((self.stature_m >= shortest) & (self.stature_m <= tallest)).nonzero()[:, 0]
        person = suitable[(traits.uniform(0, 1) * len(suitable)).long()]
        shape = self.samples[person] + SHAPE_JITTER * traits.standard_normal(self.samples.shape[1])
        activity = traits.choice([activity.weight for activity in population.activities])
        chosen = [population.activities[index] for index in activity.tolist()]
        recorded = traits.chance(MOTION_SHARE if motions is not None else 0.0)
        heading, other_side = traits.uniform(-torch.pi, torch.pi), traits.chance(0.5)

        posture, arms = (mirrored(angles, other_side) for angles in draw_limbs(draws, chosen))
        rest = self.body.rest_bones(shape)
        rotations = bone_rotations(self.body, rest, posture, arms, heading)
        lift, names = posture.lift.clone(), [f"{activity.posture}, {activity.gesture}" for activity in chosen]
        if motions is not None:
            frames, clips = motions.draw(draws.part(OTHER_NUMBERS))
            frames[:, 0] = rotation_about("z", heading) @ frames[:, 0]
            rotations[recorded] = frames[recorded]
            lift[recorded] = 0.0
            for index in recorded.nonzero()[:, 0].tolist():
                names[index] = f"motion {clips[index]}"
        orientations, heads = self.body.forward_kinematics(rest, rotations)
        penetration = self.capsules.penetration(shape, rest, orientations, heads)
        return Poses(shape, rotations, lift, penetration, names)


_poser = lru_cache(maxsize=4)(Poser)  # a body is measured once


def draw_limbs(draws: Draws, activities: list[Activity]) -> tuple[Posture, Arms]:
    """Angles of every person's limbs: their activity's posture, its gesture, and whatever an idle arm does."""
    postures, gestures, idle, _ = zip(*activities, strict=True)
    posture = _drawn_by_name(postures, lambda name, people: draw_posture(name, draws.part(POSTURE_NUMBERS, people)))

    def arms(names: Sequence[str], numbers: slice) -> Arms:
        def draw(name: str, people: Tensor) -> Arms:
            return GESTURES[name][0](draws.part(numbers, people), some_of(posture, people))

        return _drawn_by_name(names, draw)

    both = draws.part(OTHER_NUMBERS).uniform(0, 1) < torch.tensor([GESTURES[name][1] for name in gestures])
    takes_part = torch.stack([both, torch.ones_like(both)], dim=1)  # (people, 2)
    return posture, choose(takes_part, arms(gestures, GESTURE_NUMBERS), arms(idle, IDLE_NUMBERS))


def _drawn_by_name(names: Sequence[str], draw: Callable[[str, Tensor], Angles]) -> Angles:
    """Draw each kind of angles once, for all people of that name, and put the people back in order."""
    groups = {name: torch.tensor([found == name for found in names]).nonzero()[:, 0] for name in dict.fromkeys(names)}
    parts = [draw(name, people) for name, people in groups.items()]
    order = torch.cat(list(groups.values())).argsort()
    return combine(lambda *values: torch.cat(values)[order], *parts)
