"""Postures: what the trunk, the head and the legs do, and the random numbers of many people at once.

A posture is drawn by changing somebody at ease (`relaxed`), who faces forward; what is uneven is written for one side
only, because `mirrored` makes the other.

Shapes: people; `sides` are (left, right).
Signs: pitch and bend tip forward; roll, side and tilt lean to the right; twist and turn go to the left. A straight leg
straight under the pelvis has all angles 0; flexion lifts a thigh forward, folds a knee and raises the toes; abduction
spreads, rotation turns the toes outward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

NUMBERS_PER_PERSON = 160
BEYOND_THREE_DEVIATIONS = 0.00135
KNEE_LIMIT = (0.0, 150.0)
HIP_LIMIT = (-30.0, 135.0)
ANKLE_LIMIT = (-45.0, 30.0)

Group = TypeVar("Group")


def combine(function: Callable[..., Tensor], *groups: Group) -> Group:
    """Dataclasses of tensors to one of the same kind: the function is called with each field of all of them."""
    names = [field.name for field in fields(groups[0])]  # type: ignore[arg-type]
    return type(groups[0])(*(function(*(getattr(group, name) for group in groups)) for name in names))


def some_of(group: Group, people: Tensor) -> Group:
    """A dataclass of tensors of some of its people."""
    return combine(lambda values: values[people], group)


def choose(chosen: Tensor, group: Group, other: Group) -> Group:
    """A dataclass of tensors where `chosen` (people,) or (people, sides) bool, another one elsewhere."""

    def choose_values(values: Tensor, others: Tensor) -> Tensor:
        return torch.where(chosen[(..., *[None] * (values.ndim - chosen.ndim))], values, others)

    return combine(choose_values, group, other)


def mirrored(group: Group, people: Tensor) -> Group:
    """A posture or arms with left and right exchanged for the chosen people (people,) bool."""
    other = combine(lambda values: values.flip(1) if values.ndim > 1 else values, group)
    if isinstance(other, Posture):
        for name in ("pelvis_roll", "spine_side", "spine_twist", "head_tilt", "head_turn"):
            setattr(other, name, -getattr(other, name))
    return choose(people, other, group)


class Draws:
    """Hands of uniform numbers in [0, 1), (people, columns), dealt out column by column.

    Whoever asks in the same order gets the same numbers, whatever other people are in the batch.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        self.dealt = 0  # columns

    @classmethod
    def from_seeds(cls, seeds: Sequence[int], attempts: Sequence[int]) -> "Draws":
        """A hand for each of the `attempts` of each seed, all of the first seed's first."""
        hands = [np.random.default_rng(hand).random(NUMBERS_PER_PERSON) for hand in product(seeds, attempts)]
        return cls(torch.from_numpy(np.stack(hands)))

    def part(self, columns: slice, people: Tensor | slice = slice(None)) -> "Draws":
        """Fresh hands of some of these numbers, whether or not they have been dealt, for everybody or some people."""
        return Draws(self.numbers[people, columns])

    def _deal(self, count: int) -> Tensor:
        """The next `count` columns: (people, count)."""
        if self.dealt + count > self.numbers.shape[1]:
            raise ValueError(f"a person has {self.numbers.shape[1]} random numbers, and more were asked for")
        self.dealt += count
        return self.numbers[:, self.dealt - count : self.dealt]

    def uniform(self, low: float, high: float) -> Tensor:
        """One number in [low, high) for each person: (people,)."""
        return low + (high - low) * self._deal(1)[:, 0]

    def sides(self, low: float, high: float) -> Tensor:
        """A number in [low, high) for each side: (people, 2)."""
        return low + (high - low) * self._deal(2)

    def normal(self, mean: float, deviation: float) -> Tensor:
        """One normal number, within three deviations, for each person: (people,)."""
        return mean + deviation * self.standard_normal(1)[:, 0]

    def sides_normal(self, mean: float, deviation: float) -> Tensor:
        """A normal number, within three deviations, for each side: (people, 2)."""
        return mean + deviation * self.standard_normal(2)

    def standard_normal(self, count: int) -> Tensor:
        """Standard normal numbers within three deviations, one uniform number each: (people, count)."""
        within_three = BEYOND_THREE_DEVIATIONS + (1 - 2 * BEYOND_THREE_DEVIATIONS) * self._deal(count)
        return torch.special.ndtri(within_three)

    def chance(self, probability: float) -> Tensor:
        """True with this probability: (people,) bool."""
        return self._deal(1)[:, 0] < probability

    def choice(self, weights: Sequence[float]) -> Tensor:
        """An index, as likely as its weight: (people,) int64."""
        cumulative = torch.tensor(weights, dtype=self.numbers.dtype).cumsum(0)
        drawn = self._deal(1) * cumulative[-1]
        return (drawn >= cumulative).sum(dim=1).clamp(max=len(weights) - 1)


@dataclass
class Posture:
    """Angles of trunk, head and legs in degrees, each `(people,)`, or `(people, 2)` for legs and arms."""

    pelvis_pitch: Tensor
    pelvis_roll: Tensor
    spine_bend: Tensor
    spine_side: Tensor
    spine_twist: Tensor
    head_nod: Tensor
    head_tilt: Tensor
    head_turn: Tensor
    hip_flexion: Tensor
    hip_abduction: Tensor
    hip_rotation: Tensor
    knee_flexion: Tensor
    ankle_flexion: Tensor
    arm_swing: Tensor  # how far forward hanging arms swing with the step
    lift: Tensor  # of the lowest point off the ground, metres


def relaxed(draws: Draws) -> Posture:
    """Someone at ease on both legs."""
    spine_bend = draws.normal(4, 5)
    hip_flexion = draws.sides_normal(0, 3)
    return Posture(
        pelvis_pitch=draws.normal(0, 3),
        pelvis_roll=draws.normal(0, 2),
        spine_bend=spine_bend,
        spine_side=draws.normal(0, 4),
        spine_twist=draws.normal(0, 9),
        head_nod=draws.normal(4, 11) - 0.3 * spine_bend,
        head_tilt=draws.normal(0, 5),
        head_turn=draws.normal(0, 22),
        hip_flexion=hip_flexion,
        hip_abduction=draws.sides(-1, 9),
        hip_rotation=draws.sides_normal(8, 7),
        knee_flexion=draws.sides(0, 8),
        ankle_flexion=torch.zeros_like(hip_flexion),
        arm_swing=torch.zeros_like(hip_flexion),
        lift=torch.zeros_like(spine_bend),
    )


def aim_legs(posture: Posture, thigh_pitch: Tensor, shin_pitch: Tensor) -> None:
    """Aim thighs and shins in the world, soles level: pitch 0 is straight down, forward of the joint is positive."""
    pelvis_pitch = posture.pelvis_pitch[:, None]
    posture.hip_flexion = (thigh_pitch + pelvis_pitch).clamp(*HIP_LIMIT)
    posture.knee_flexion = (posture.hip_flexion - pelvis_pitch - shin_pitch).clamp(*KNEE_LIMIT)
    posture.ankle_flexion = level_soles(posture)


def level_soles(posture: Posture) -> Tensor:
    """Ankle flexion (people, 2) of level soles, stretched where the shin itself lies on the ground."""
    shin_tips_forward = posture.pelvis_pitch[:, None] - posture.hip_flexion + posture.knee_flexion
    return torch.where(shin_tips_forward > 70, ANKLE_LIMIT[0], shin_tips_forward.clamp(*ANKLE_LIMIT))


def stand(draws: Draws, posture: Posture) -> None:
    """Standing, half of the time with the weight on one leg."""
    slack = torch.where(draws.chance(0.5), draws.uniform(5, 35), 0.0)
    uneven = torch.stack([slack, torch.zeros_like(slack)], dim=1)
    forward = draws.sides_normal(0, 4) + uneven * draws.uniform(0.2, 0.7)[:, None]
    spread = draws.uniform(0, 10)[:, None] + 0.2 * uneven
    posture.hip_abduction = posture.hip_abduction + torch.where(draws.chance(0.3)[:, None], spread, 0)
    softness = 0.5 * posture.knee_flexion
    aim_legs(posture, forward + softness, forward - uneven - softness)


def walk(draws: Draws, posture: Posture) -> None:
    """Somewhere in a step: the knee folds while its thigh swings forward, and the arms swing against the legs."""
    pace = draws.uniform(0.4, 1.15)[:, None]
    phase = draws.uniform(0, 2 * torch.pi)[:, None] + torch.tensor([0.0, torch.pi], dtype=torch.float64)
    swinging = torch.cos(phase + 0.1).clamp(min=0) ** 1.5
    posture.hip_flexion = 5 + 25 * pace * torch.sin(phase) + posture.hip_flexion
    posture.knee_flexion = posture.knee_flexion + 4 + 52 * pace * swinging
    posture.hip_abduction = draws.sides(-3, 4)
    posture.spine_twist = posture.spine_twist + 7 * pace[:, 0] * torch.sin(phase[:, 0])
    posture.arm_swing = -28 * pace * torch.sin(phase) * draws.uniform(0.2, 1.2)[:, None]
    posture.ankle_flexion = level_soles(posture) * draws.uniform(0.3, 1)[:, None]


def lean(draws: Draws, posture: Posture) -> None:
    """Bending over from the hips and the back, knees a little soft, sometimes to one side."""
    depth = draws.uniform(0, 1)
    posture.pelvis_pitch = 5 + 50 * depth * draws.uniform(0.4, 1)
    posture.spine_bend = 5 + 50 * depth * draws.uniform(0.3, 1)
    posture.spine_side = posture.spine_side + draws.normal(0, 8)
    posture.spine_twist = posture.spine_twist + draws.normal(0, 12)
    posture.head_nod = draws.normal(0, 14) - 10 * depth
    softness = draws.sides(0, 12) + (draws.uniform(0, 1) * depth * 35)[:, None]
    stagger = draws.normal(0, 8)[:, None] * torch.tensor([1.0, -1.0], dtype=torch.float64)
    backward = (8 * depth)[:, None]
    aim_legs(posture, stagger + softness - backward, stagger - softness - backward)


def sit(draws: Draws, posture: Posture) -> None:
    """On a chair: thighs about level, feet below or before the knees, the back from slumped to upright."""
    posture.pelvis_pitch = draws.normal(-4, 9)
    posture.spine_bend = draws.uniform(-2, 32)
    posture.spine_side = posture.spine_side + draws.normal(0, 4)
    posture.hip_abduction = draws.uniform(-2, 16)[:, None] + draws.sides(-3, 5)
    posture.hip_rotation = draws.sides_normal(4, 9)
    thigh = draws.uniform(74, 92)[:, None] + draws.sides(-4, 4)
    shin = draws.normal(5, 13)[:, None] + draws.sides_normal(0, 9)
    aim_legs(posture, thigh, shin)


def crouch(draws: Draws, posture: Posture) -> None:
    """Squatting, from half-way down to the heels."""
    depth = draws.uniform(0.35, 1)
    posture.pelvis_pitch = draws.uniform(0, 35) * depth
    posture.spine_bend = draws.uniform(5, 40)
    posture.hip_abduction = draws.uniform(0, 25)[:, None] + draws.sides(-4, 4)
    posture.hip_rotation = draws.sides_normal(12, 8)
    thigh = 95 * depth[:, None] + draws.sides(-10, 10)
    shin = -32 * depth[:, None] + draws.sides(-10, 10)
    aim_legs(posture, thigh, shin)


def kneel(draws: Draws, posture: Posture) -> None:
    """On one knee or on both, upright or sitting back on the heels."""
    sits_back = draws.uniform(0, 1) ** 2
    both = draws.chance(0.4)[:, None]
    kneeling_thigh = (5 + 55 * sits_back)[:, None] + draws.sides(-8, 8)
    front_thigh = draws.uniform(75, 100)[:, None]
    left = torch.tensor([True, False]) & ~both
    posture.pelvis_pitch = draws.normal(5, 8)
    posture.spine_bend = draws.uniform(0, 30)
    posture.hip_abduction = draws.sides(0, 12)
    thigh = torch.where(left, front_thigh, kneeling_thigh)
    shin = torch.where(left, draws.sides_normal(-3, 8), draws.sides(-95, -85))
    aim_legs(posture, thigh, shin)


def sit_on_ground(draws: Draws, posture: Posture) -> None:
    """On the floor: legs stretched out, knees drawn up, or legs crossed."""
    way = draws.choice([0.35, 0.35, 0.3])[:, None]
    posture.pelvis_pitch = draws.normal(-12, 8)
    posture.spine_bend = draws.uniform(5, 40)
    posture.hip_abduction = torch.where(way == 2, draws.sides(32, 48), draws.sides(0, 18))
    posture.hip_rotation = torch.where(way == 2, draws.sides(60, 80), draws.sides_normal(5, 8))
    stretched, drawn_up, crossed = draws.sides(84, 92), draws.sides(115, 135), draws.sides(78, 88)
    thigh = torch.where(way == 0, stretched, torch.where(way == 1, drawn_up, crossed))
    shin_stretched = stretched - draws.sides(0, 22)
    shin_drawn_up = draws.sides(0, 35)
    shin_crossed = crossed - draws.sides(105, 125)
    shin = torch.where(way == 0, shin_stretched, torch.where(way == 1, shin_drawn_up, shin_crossed))
    aim_legs(posture, thigh, shin)


def crawl(draws: Draws, posture: Posture) -> None:
    """On hands and knees."""
    posture.pelvis_pitch = draws.uniform(75, 95)
    posture.spine_bend = draws.uniform(-12, 18)
    posture.head_nod = draws.uniform(-50, 5)
    thigh = draws.uniform(-5, 12)[:, None] + draws.sides_normal(0, 13)
    aim_legs(posture, thigh, draws.sides(-95, -82))


def lie(draws: Draws, posture: Posture) -> None:
    """On the back, on the front or on a side."""
    way = draws.choice([0.45, 0.3, 0.25])
    pitch = torch.where(way == 1, draws.normal(90, 4), draws.normal(-90, 4))
    fold = draws.uniform(0, 1)[:, None]
    knees = (fold * draws.sides(20, 120)).where(way[:, None] != 1, draws.sides(0, 60) * fold)
    hips = (knees * draws.uniform(0.45, 0.85)[:, None]).where(way[:, None] != 1, draws.sides(-8, 5))
    posture.pelvis_pitch = torch.where(way == 2, draws.normal(-80, 10), pitch)
    posture.pelvis_roll = torch.where(way == 2, draws.normal(85, 12), draws.normal(0, 10))
    posture.spine_bend = draws.uniform(-8, 15)
    posture.hip_flexion = hips
    posture.hip_abduction = draws.sides(0, 18)
    posture.hip_rotation = draws.sides_normal(12, 12)
    posture.knee_flexion = knees
    posture.ankle_flexion = draws.sides(-40, 0)


def jump(draws: Draws, posture: Posture) -> None:
    """In the air, legs from stretched to tucked up."""
    tuck = draws.uniform(0, 1)[:, None]
    posture.pelvis_pitch = draws.normal(8, 12)
    posture.pelvis_roll = draws.normal(0, 8)
    posture.spine_bend = draws.normal(8, 12)
    posture.hip_flexion = tuck * draws.sides(0, 95) - 12 * (1 - tuck)
    posture.hip_abduction = draws.sides(0, 30)
    posture.knee_flexion = 10 + tuck * draws.sides(10, 120)
    posture.ankle_flexion = draws.sides(-45, 5)
    posture.lift = draws.uniform(0.05, 0.45)


def free(draws: Draws, posture: Posture) -> None:
    """Any angle a joint allows: dance, sport, stumbling."""
    posture.pelvis_pitch = draws.normal(5, 18)
    posture.pelvis_roll = draws.normal(0, 12)
    posture.spine_bend = draws.uniform(-20, 50)
    posture.spine_side = draws.normal(0, 12)
    posture.spine_twist = draws.normal(0, 18)
    posture.head_nod = draws.normal(0, 18)
    posture.head_tilt = draws.normal(0, 10)
    posture.head_turn = draws.normal(0, 30)
    posture.hip_flexion = draws.sides(-25, 105)
    posture.hip_abduction = draws.sides(-10, 42)
    posture.hip_rotation = draws.sides_normal(8, 18)
    posture.knee_flexion = draws.sides(0, 1) ** 1.3 * 125
    posture.ankle_flexion = draws.sides(-35, 20)


POSTURES: dict[str, Callable[[Draws, Posture], None]] = {
    "standing": stand,
    "walking": walk,
    "leaning": lean,
    "sitting": sit,
    "crouching": crouch,
    "kneeling": kneel,
    "sitting on the ground": sit_on_ground,
    "crawling": crawl,
    "lying": lie,
    "jumping": jump,
    "moving freely": free,
}


def draw_posture(name: str, draws: Draws) -> Posture:
    """One posture for everybody, every leg joint inside what a body can do."""
    posture = relaxed(draws)
    POSTURES[name](draws, posture)
    posture.hip_flexion = posture.hip_flexion.clamp(*HIP_LIMIT)
    posture.knee_flexion = posture.knee_flexion.clamp(*KNEE_LIMIT)
    posture.ankle_flexion = posture.ankle_flexion.clamp(*ANKLE_LIMIT)
    return posture
