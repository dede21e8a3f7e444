"""Training on streams: examples without end or random access, which can stop anywhere and go on from there.

A stream gives the rows of a mixture of datasets (`PoseStream`), draws synthetic people as training goes on
(`SyntheticStream`), or blends several streams (`BlendedStream`).

Each worker reads its own part, and hands its position over with every batch. A position is a few kilobytes of
JSON; going on from it gives the examples that would have come, without reading more of what was before than the rows
that are shuffled together.

Shape vocabulary: as in `jointdetr/data/examples.py`.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from ..data.examples import PoseExamples, collate_poses, stack_labels, unstack_labels
from ..data.loading import describe_row, misfit
from ..data.mixing import RowMixture, RowReader, Share
from ..skeleton_jointdetr import HUMAN36M
from ..synthesis.rows import PersonRows, RowSettings

logger = logging.getLogger(__name__)

TRAINING_PEOPLE = 7_919_000_003  # keeps people in training apart from those that `synthesize` draws by the same seed
VIEW_STREAM = 1  # keeps a view's numbers apart from those that the person is drawn from
_POSITION = "stream_position"


class ExampleStream(torch.utils.data.IterableDataset, ABC):
    """Examples of `PoseExamples` that processes and workers share, from any position that was given out before."""

    start_method: str | None = None  # how workers have to be started; None as Python does it

    def __init__(self, examples: PoseExamples, share: Share):
        self.examples = examples
        self.share = share
        self._starts: dict[int, dict[str, Any]] = {}

    def load_positions(self, positions: dict[int, dict[str, Any]]) -> None:
        """Let the workers of the next iteration start from positions that `position` gave, by their number."""
        self._starts = positions

    @abstractmethod
    def position(self) -> dict[str, Any]:
        """Where this worker's iteration is, ready for JSON."""

    def _start(self) -> tuple[int, dict[str, Any] | None]:
        """Number of this worker, and the position that it starts from, if it is not the beginning."""
        info = get_worker_info()
        worker = 0 if info is None else info.id
        return worker, self._starts.get(worker)


class PoseStream(ExampleStream):
    """Crops of the people of a mixture, pass after pass; without a number of passes for ever.

    An example's view depends on the seed, the process, the worker and the number of examples before it there.
    """

    def __init__(self, mixture: RowMixture, examples: PoseExamples, passes: int | None = None):
        super().__init__(examples, mixture.share)
        self.mixture, self.passes = mixture, passes
        self._passage = self._count = 0
        self._reader: RowReader | None = None

    def position(self) -> dict[str, Any]:
        """Where this worker's iteration is."""
        return {"passage": self._passage, "count": self._count, "rows": self._reader.position()}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor | dict[str, torch.Tensor]]]:
        worker, start = self._start()
        self._passage, self._count = (start["passage"], start["count"]) if start else (0, 0)
        while self.passes is None or self._passage < self.passes:
            self._reader = RowReader(self.mixture, self._passage, start["rows"] if start else None)
            before = self._count
            for row in self._fitting(self._reader):
                rng = np.random.default_rng((self.mixture.seed, self.share.process, worker, self._count))
                self._count += 1
                yield self.examples.example(row, rng)
            if self._count == before and not start:
                return  # no shard is left for this worker
            start = None
            self._passage += 1

    def _fitting(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Leave out rows whose box shows nobody, and say so once; a `ValueError` if nothing is left."""
        left_out = 0
        for row in rows:
            problem = misfit(row)
            if problem is None:
                yield row
                continue
            left_out += 1
            if self._passage == 0:
                logger.warning("a row is left out (%s): %s", describe_row(row), ": ".join(problem))
        if left_out and not self._count:
            raise ValueError(f"none of {left_out} rows can be trained on; the last is left out for: {problem.reason}")


class SyntheticStream(ExampleStream):
    """Crops of synthetic people, a new one each time: no files, and nobody is seen twice.

    People are posed and rendered a group of `at_once` at a time, in the workers or, without workers, in the training
    process; on the GPU where that is asked for. Their rows and examples are those of a dataset that `jointdetr
    synthesize` writes.

    Person and view depend on the settings, the person's number and `at_once` alone. Readers (workers of all processes)
    take turns at groups of numbers, so that any number of readers draw the same people, in another order.
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


class BlendedStream(ExampleStream):
    """Several endless streams of one skeleton and one share in one, drawn by weight."""

    def __init__(self, parts: Sequence[ExampleStream], weights: Sequence[float], seed: int = 0):
        super().__init__(parts[0].examples, parts[0].share)
        if min(weights) <= 0.0:
            raise ValueError(f"the weights of sources and synthesis must be positive, got {list(weights)}")
        self.parts, self.weights, self.seed = parts, weights, seed
        self.start_method = next((part.start_method for part in parts if part.start_method), None)
        self._counts = [0] * len(parts)
        self._positions: list[dict[str, Any] | None] = [None] * len(parts)  # where the iteration began
        self._drawn: set[int] = set()  # parts that are no longer there

    def position(self) -> dict[str, Any]:
        """Where this worker's iteration is, in each part; a part that was never drawn from has no position."""
        positions = [
            part.position() if number in self._drawn else self._positions[number]
            for number, part in enumerate(self.parts)
        ]
        return {"counts": list(self._counts), "parts": positions}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor | dict[str, torch.Tensor]]]:
        worker, start = self._start()
        start = start or {"counts": [0] * len(self.parts), "parts": [None] * len(self.parts)}
        self._counts, self._positions, self._drawn = list(start["counts"]), start["parts"], set()
        for part, position in zip(self.parts, self._positions, strict=True):
            part.load_positions({worker: position} if position else {})
        iterators = [iter(part) for part in self.parts]
        probabilities = np.array(self.weights) / np.sum(self.weights)
        while True:
            rng = np.random.default_rng((self.seed, self.share.process, worker, sum(self._counts)))
            number = int(rng.choice(len(self.parts), p=probabilities))
            example = next(iterators[number], None)
            if example is None:
                raise ValueError(f"worker {worker} must have a shard of each source, got none: start fewer workers")
            self._counts[number] += 1
            self._drawn.add(number)
            yield example


class _InTurn(torch.utils.data.IterableDataset):
    """A stream whose workers go on with the one whose turn it is: those before it give an empty batch first."""

    def __init__(self, stream: ExampleStream):
        self.stream = stream
        self.last_worker = -1  # that gave a batch, when the run stopped
        self.batch_size = 1

    def __iter__(self) -> Iterator[dict[str, Any] | None]:
        info = get_worker_info()
        if info is not None and info.id <= self.last_worker < info.num_workers - 1:
            yield from repeat(None, self.batch_size)
        yield from self.stream


class StreamLoader(DataLoader):
    """Batches of a stream; knows where the batches that it has given out end."""

    def __init__(self, stream: ExampleStream, **kwargs: Any):
        if kwargs.get("num_workers"):
            kwargs["multiprocessing_context"] = stream.start_method
        # a generator of its own, so that beginning anew, as after a resume, draws nothing from the model's numbers
        super().__init__(_InTurn(stream), collate_fn=_collate_with_position, generator=torch.Generator(), **kwargs)
        self.stream = stream
        self.dataset.batch_size = self.batch_size
        self.positions: dict[int, dict[str, Any]] = {}
        self._last_worker = -1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in super().__iter__():
            worker, position = batch.pop(_POSITION)
            if batch:
                self._last_worker = worker
                self.positions[worker] = position or self.stream.position()
                yield batch | {"labels": unstack_labels(batch["labels"])}

    def state_dict(self) -> dict[str, Any]:
        """Positions of all workers, and how the data are shared out, ready for JSON."""
        positions = {str(worker): value for worker, value in self.positions.items()}
        return self._sharing() | {"positions": positions, "last_worker": self._last_worker}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state in the next iteration; a `ValueError` with another number of processes or workers."""
        here = self._sharing()
        there = {name: state[name] for name in here}
        if here != there:
            raise ValueError(f"a stream goes on with the processes and workers it had, {there}, got {here}")
        self.positions = {int(worker): value for worker, value in state["positions"].items()}
        self._last_worker = self.dataset.last_worker = state["last_worker"]
        self.stream.load_positions(dict(self.positions))

    def _sharing(self) -> dict[str, int]:
        share = self.stream.share
        return {"process": share.process, "processes": share.processes, "workers": self.num_workers}


def _collate_with_position(examples: Sequence[dict | None]) -> dict[str, Any]:
    """Make a batch that says which worker it comes from, and where that is now; None in the main process."""
    info = get_worker_info()
    worker = 0 if info is None else info.id
    if examples[0] is None:
        return {_POSITION: (worker, None)}
    position = None if info is None else info.dataset.stream.position()
    batch = collate_poses(examples)
    # each tensor that a worker hands over costs a file descriptor, and there are several for each crop
    return batch | {"labels": stack_labels(batch["labels"]), _POSITION: (worker, position)}
