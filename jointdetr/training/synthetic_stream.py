"""Training on synthetic people who are drawn as training goes on: no files, and nobody is seen twice.

People are posed and rendered a group at a time, in the workers or, without workers, in the training process; on the
GPU where that is asked for. Their rows and examples are those of a dataset that `jointdetr synthesize` writes.

Shape vocabulary: as in `jointdetr/data/examples.py`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..data.examples import PoseExamples
from ..data.mixing import Share
from ..skeleton_jointdetr import HUMAN36M
from ..synthesis.rows import PersonRows, RowSettings
from .stream import ExampleStream

TRAINING_PEOPLE = 7_919_000_003  # keeps people in training apart from those that `synthesize` draws by the same seed
VIEW_STREAM = 1  # keeps a view's numbers apart from those that the person is drawn from


class SyntheticStream(ExampleStream):
    """Crops of synthetic people, a new one each time.

    Person and view depend on the settings, the person's number and `at_once` alone. Readers (workers of all processes)
    take turns at groups of numbers, so that any number of readers draw the same people, in another order.

    Args:
        settings: who is drawn, and how they are pictured.
        examples: turns rows into examples.
        share: which part this process draws.
        at_once: people who are posed and rendered in one go.

    Raises:
        ValueError: The skeleton is not Human3.6M's, or `at_once` is not positive.
    """

    def __init__(self, settings: RowSettings, examples: PoseExamples, share: Share, at_once: int = 32):
        super().__init__(examples, share)
        if examples.skeleton.name != HUMAN36M.name:
            raise ValueError(f"synthetic people have the joints of {HUMAN36M.name!r}, got {examples.skeleton.name!r}")
        if at_once < 1:
            raise ValueError(f"`train.synthesis.at_once` must be at least 1, got {at_once}")
        self.settings = settings
        self.at_once = at_once
        self._count = 0
        if settings.device != "cpu":
            self.start_method = "spawn"  # a forked process cannot use CUDA

    def position(self) -> dict[str, Any]:
        """How many people this worker has drawn."""
        return {"count": self._count}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor | dict[str, torch.Tensor]]]:
        worker, start = self._start()
        self._count = start["count"] if start else 0
        people = PersonRows(self.settings)  # here, as a GPU's tensors are of no use in a worker
        while True:
            group, done = divmod(self._count, self.at_once)  # after a resume, the group is drawn again as it was
            numbers = self._numbers(group, worker)
            for number, row in list(zip(numbers, people.render(numbers), strict=True))[done:]:
                rng = np.random.default_rng((self.settings.seed, number, VIEW_STREAM))
                self._count += 1
                yield self.examples.example(row, rng)

    def _numbers(self, group: int, worker: int) -> range:
        """The people of this worker's group of that number."""
        workers = max(1, self.share.workers)
        reader = self.share.process * workers + worker
        first = (group * self.share.processes * workers + reader) * self.at_once
        return range(first, first + self.at_once)


def training_people_seed(seed: int) -> int:
    """Seed of the people of a training run; with the same seed `jointdetr synthesize` draws others, to test on."""
    state = np.random.SeedSequence((seed, TRAINING_PEOPLE)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
