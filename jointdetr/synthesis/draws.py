"""Random numbers of many people at once, each person's from their own seed.

Shapes: people; `sides` stands for (left, right).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NUMBERS_PER_PERSON = 160
BEYOND_THREE_DEVIATIONS = 0.00135


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
