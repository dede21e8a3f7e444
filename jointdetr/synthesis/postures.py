"""Postures: what the trunk, the head and the legs do, and the random numbers of many people at once.

A posture's function takes a hand of random numbers and returns joint angles in degrees; the person faces forward, and
a posture with an uneven pair of limbs is written for one side only, because `Posture.mirrored` makes the other.

Shapes: people; `sides` are (left, right).

Signs: pitch and bend tip forward; roll, side and tilt lean to the right; twist and turn go to the left. A straight leg
straight under the pelvis has all angles 0; flexion lifts a thigh forward, folds a knee and raises the toes; abduction
spreads, rotation turns the toes outward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

NUMBERS_PER_PERSON = 160
BEYOND_THREE_DEVIATIONS = 0.00135
KNEE_LIMIT = (0.0, 150.0)
HIP_LIMIT = (-30.0, 135.0)
ANKLE_LIMIT = (-45.0, 30.0)


class Draws:
    """A hand of random numbers for each person, dealt out column by column.

    Whoever asks in the same order gets the same numbers, whatever other people are in the batch.
    """

    def __init__(self, numbers: Tensor, dealt: int = 0) -> None:
        """Hold uniform numbers (people, columns) in [0, 1), of which the first `dealt` columns have been used."""
        self.numbers = numbers
        self.dealt = dealt

    @classmethod
    def from_seeds(cls, seeds: Sequence[int], attempts: Sequence[int]) -> "Draws":
        """A hand for each of the `attempts` of each seed, all of the first seed's first."""
        hands = [
            np.random.default_rng([seed, attempt]).random(NUMBERS_PER_PERSON) for seed in seeds for attempt in attempts
        ]
        return cls(torch.from_numpy(np.stack(hands)))

    def of(self, people: Tensor) -> "Draws":
        """The hands of some people alone, dealt as far as these."""
        return Draws(self.numbers[people], self.dealt)

    def part(self, start: int, count: int) -> "Draws":
        """Fresh hands of `count` of these numbers, whether or not they have been dealt."""
        return Draws(self.numbers[:, start : start + count])

    def _deal(self, count: int) -> Tensor:
        """The next `count` columns: (people, count)."""
        if self.dealt + count > self.numbers.shape[1]:
            raise ValueError(f"a person has {self.numbers.shape[1]} random numbers, and more were asked for")
        dealt = self.numbers[:, self.dealt : self.dealt + count]
        self.dealt += count
        return dealt

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


@dataclass(frozen=True)
class Posture:
    """Angles of trunk, head and legs in degrees, each `(people,)`, or `(people, 2)` for legs and arms.

    `arm_swing` is how far forward hanging arms swing with the step, `lift` how far the lowest point is off the ground
    in metres.
    """

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
    arm_swing: Tensor
    lift: Tensor

    def mirrored(self, people: Tensor) -> "Posture":
        """The same posture with left and right exchanged for the chosen people (people,) bool."""
        sideways = ("pelvis_roll", "spine_side", "spine_twist", "head_tilt", "head_turn")
        changed = {name: torch.where(people, -getattr(self, name), getattr(self, name)) for name in sideways}
        for name in (field.name for field in fields(self)):
            angle = getattr(self, name)
            if angle.ndim == 2:
                changed[name] = torch.where(people[:, None], angle.flip(1), angle)
        return replace(self, **changed)

    def within_limits(self) -> "Posture":
        """The same posture with every leg joint inside what a body can do."""
        return replace(
            self,
            hip_flexion=self.hip_flexion.clamp(*HIP_LIMIT),
            knee_flexion=self.knee_flexion.clamp(*KNEE_LIMIT),
            ankle_flexion=self.ankle_flexion.clamp(*ANKLE_LIMIT),
        )


def relaxed(draws: Draws) -> Posture:
    """Someone at ease on both legs; other postures change what they need."""
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


def legs_under(posture: Posture, thigh_pitch: Tensor, shin_pitch: Tensor) -> Posture:
    """Aim thighs and shins in the world, soles level: pitch 0 is straight down, forward of the joint is positive."""
    hip_flexion = (thigh_pitch + posture.pelvis_pitch[:, None]).clamp(*HIP_LIMIT)
    knee_flexion = (hip_flexion - posture.pelvis_pitch[:, None] - shin_pitch).clamp(*KNEE_LIMIT)
    bent = replace(posture, hip_flexion=hip_flexion, knee_flexion=knee_flexion)
    return soles_level(bent)


def soles_level(posture: Posture) -> Posture:
    """Flex the ankles so that the soles are level, or stretch them where the shin itself lies on the ground."""
    shin_tips_forward = posture.pelvis_pitch[:, None] - posture.hip_flexion + posture.knee_flexion
    ankle_flexion = torch.where(shin_tips_forward > 70, ANKLE_LIMIT[0], shin_tips_forward.clamp(*ANKLE_LIMIT))
    return replace(posture, ankle_flexion=ankle_flexion)


def stand(draws: Draws) -> Posture:
    """Standing, half of the time with the weight on one leg."""
    posture = relaxed(draws)
    slack = torch.where(draws.chance(0.5), draws.uniform(5, 35), 0.0)
    uneven = torch.stack([slack, torch.zeros_like(slack)], dim=1)
    forward = draws.sides_normal(0, 4) + uneven * draws.uniform(0.2, 0.7)[:, None]
    spread = draws.uniform(0, 10)[:, None] + 0.2 * uneven
    standing = replace(
        posture, hip_abduction=posture.hip_abduction + torch.where(draws.chance(0.3)[:, None], spread, 0)
    )
    return legs_under(standing, forward + 0.5 * posture.knee_flexion, forward - uneven - 0.5 * posture.knee_flexion)


def walk(draws: Draws) -> Posture:
    """Somewhere in a step: the knee folds while its thigh swings forward, and the arms swing against the legs."""
    posture = relaxed(draws)
    pace = draws.uniform(0.4, 1.15)[:, None]
    phase = draws.uniform(0, 2 * torch.pi)[:, None] + torch.tensor([0.0, torch.pi], dtype=torch.float64)
    swinging = torch.cos(phase + 0.1).clamp(min=0) ** 1.5
    hip_flexion = 5 + 25 * pace * torch.sin(phase) + posture.hip_flexion
    knee_flexion = posture.knee_flexion + 4 + 52 * pace * swinging
    step = replace(
        posture,
        hip_flexion=hip_flexion,
        hip_abduction=draws.sides(-3, 4),
        knee_flexion=knee_flexion,
        spine_twist=posture.spine_twist + 7 * pace[:, 0] * torch.sin(phase[:, 0]),
        arm_swing=-28 * pace * torch.sin(phase) * draws.uniform(0.2, 1.2)[:, None],
    )
    toes_up = soles_level(step).ankle_flexion
    return replace(step, ankle_flexion=toes_up * draws.uniform(0.3, 1)[:, None])


def lean(draws: Draws) -> Posture:
    """Bending over from the hips and the back, knees a little soft, sometimes to one side."""
    posture = relaxed(draws)
    depth = draws.uniform(0, 1)
    bent = replace(
        posture,
        pelvis_pitch=5 + 50 * depth * draws.uniform(0.4, 1),
        spine_bend=5 + 50 * depth * draws.uniform(0.3, 1),
        spine_side=posture.spine_side + draws.normal(0, 8),
        spine_twist=posture.spine_twist + draws.normal(0, 12),
        head_nod=draws.normal(0, 14) - 10 * depth,
    )
    softness = draws.sides(0, 12) + (draws.uniform(0, 1) * depth * 35)[:, None]
    stagger = draws.normal(0, 8)[:, None] * torch.tensor([1.0, -1.0], dtype=torch.float64)
    backward = (8 * depth)[:, None]
    return legs_under(bent, stagger + softness - backward, stagger - softness - backward)


def sit(draws: Draws) -> Posture:
    """On a chair: thighs about level, feet below or before the knees, the back from slumped to upright."""
    posture = relaxed(draws)
    recline = draws.normal(-4, 9)
    seated = replace(
        posture,
        pelvis_pitch=recline,
        spine_bend=draws.uniform(-2, 32),
        spine_side=posture.spine_side + draws.normal(0, 4),
        hip_abduction=draws.uniform(-2, 16)[:, None] + draws.sides(-3, 5),
        hip_rotation=draws.sides_normal(4, 9),
    )
    thigh = draws.uniform(74, 92)[:, None] + draws.sides(-4, 4)
    shin = draws.normal(5, 13)[:, None] + draws.sides_normal(0, 9)
    return legs_under(seated, thigh, shin)


def crouch(draws: Draws) -> Posture:
    """Squatting, from half-way down to the heels."""
    posture = relaxed(draws)
    depth = draws.uniform(0.35, 1)
    squat = replace(
        posture,
        pelvis_pitch=draws.uniform(0, 35) * depth,
        spine_bend=draws.uniform(5, 40),
        hip_abduction=draws.uniform(0, 25)[:, None] + draws.sides(-4, 4),
        hip_rotation=draws.sides_normal(12, 8),
    )
    thigh = 95 * depth[:, None] + draws.sides(-10, 10)
    shin = -32 * depth[:, None] + draws.sides(-10, 10)
    return legs_under(squat, thigh, shin)


def kneel(draws: Draws) -> Posture:
    """On one knee or on both, upright or sitting back on the heels."""
    posture = relaxed(draws)
    sits_back = draws.uniform(0, 1) ** 2
    both = draws.chance(0.4)[:, None]
    kneeling_thigh = (5 + 55 * sits_back)[:, None] + draws.sides(-8, 8)
    front_thigh = draws.uniform(75, 100)[:, None]
    left = torch.tensor([True, False]) & ~both
    knelt = replace(
        posture,
        pelvis_pitch=draws.normal(5, 8),
        spine_bend=draws.uniform(0, 30),
        hip_abduction=draws.sides(0, 12),
    )
    thigh = torch.where(left, front_thigh, kneeling_thigh)
    shin = torch.where(left, draws.sides_normal(-3, 8), draws.sides(-95, -85))
    return legs_under(knelt, thigh, shin)


def sit_on_ground(draws: Draws) -> Posture:
    """On the floor: legs stretched out, knees drawn up, or legs crossed."""
    posture = relaxed(draws)
    way = draws.choice([0.35, 0.35, 0.3])[:, None]
    seated = replace(
        posture,
        pelvis_pitch=draws.normal(-12, 8),
        spine_bend=draws.uniform(5, 40),
        hip_abduction=torch.where(way == 2, draws.sides(32, 48), draws.sides(0, 18)),
        hip_rotation=torch.where(way == 2, draws.sides(60, 80), draws.sides_normal(5, 8)),
    )
    stretched = draws.sides(84, 92)
    drawn_up = draws.sides(115, 135)
    crossed = draws.sides(78, 88)
    thigh = torch.where(way == 0, stretched, torch.where(way == 1, drawn_up, crossed))
    shin_stretched = stretched - draws.sides(0, 22)
    shin_drawn_up = draws.sides(0, 35)
    shin_crossed = crossed - draws.sides(105, 125)
    shin = torch.where(way == 0, shin_stretched, torch.where(way == 1, shin_drawn_up, shin_crossed))
    return legs_under(seated, thigh, shin)


def crawl(draws: Draws) -> Posture:
    """On hands and knees."""
    posture = relaxed(draws)
    on_fours = replace(
        posture,
        pelvis_pitch=draws.uniform(75, 95),
        spine_bend=draws.uniform(-12, 18),
        head_nod=draws.uniform(-50, 5),
    )
    thigh = draws.uniform(-5, 12)[:, None] + draws.sides_normal(0, 13)
    return legs_under(on_fours, thigh, draws.sides(-95, -82))


def lie(draws: Draws) -> Posture:
    """On the back, on the front or on a side."""
    posture = relaxed(draws)
    way = draws.choice([0.45, 0.3, 0.25])
    pitch = torch.where(way == 1, draws.normal(90, 4), draws.normal(-90, 4))
    fold = draws.uniform(0, 1)[:, None]
    knees = (fold * draws.sides(20, 120)).where(way[:, None] != 1, draws.sides(0, 60) * fold)
    hips = (knees * draws.uniform(0.45, 0.85)[:, None]).where(way[:, None] != 1, draws.sides(-8, 5))
    return replace(
        posture,
        pelvis_pitch=torch.where(way == 2, draws.normal(-80, 10), pitch),
        pelvis_roll=torch.where(way == 2, draws.normal(85, 12), draws.normal(0, 10)),
        spine_bend=draws.uniform(-8, 15),
        hip_flexion=hips,
        hip_abduction=draws.sides(0, 18),
        hip_rotation=draws.sides_normal(12, 12),
        knee_flexion=knees,
        ankle_flexion=draws.sides(-40, 0),
    )


def jump(draws: Draws) -> Posture:
    """In the air, legs from stretched to tucked up."""
    posture = relaxed(draws)
    tuck = draws.uniform(0, 1)[:, None]
    return replace(
        posture,
        pelvis_pitch=draws.normal(8, 12),
        pelvis_roll=draws.normal(0, 8),
        spine_bend=draws.normal(8, 12),
        hip_flexion=tuck * draws.sides(0, 95) - 12 * (1 - tuck),
        hip_abduction=draws.sides(0, 30),
        knee_flexion=10 + tuck * draws.sides(10, 120),
        ankle_flexion=draws.sides(-45, 5),
        lift=draws.uniform(0.05, 0.45),
    )


def free(draws: Draws) -> Posture:
    """Any angle a joint allows: dance, sport, stumbling."""
    posture = relaxed(draws)
    return replace(
        posture,
        pelvis_pitch=draws.normal(5, 18),
        pelvis_roll=draws.normal(0, 12),
        spine_bend=draws.uniform(-20, 50),
        spine_side=draws.normal(0, 12),
        spine_twist=draws.normal(0, 18),
        head_nod=draws.normal(0, 18),
        head_tilt=draws.normal(0, 10),
        head_turn=draws.normal(0, 30),
        hip_flexion=draws.sides(-25, 105),
        hip_abduction=draws.sides(-10, 42),
        hip_rotation=draws.sides_normal(8, 18),
        knee_flexion=draws.sides(0, 1) ** 1.3 * 125,
        ankle_flexion=draws.sides(-35, 20),
    )


POSTURES: dict[str, Callable[[Draws], Posture]] = {
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
