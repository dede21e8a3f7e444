"""What a recipe trains on, stored rows or streams, and what it is measured on.

A stream has examples without end or random access. It gives the rows of a mixture of datasets (`PoseStream`), draws
synthetic people as training goes on (`SyntheticStream`), or blends several streams (`BlendedStream`). Each worker
reads its own part, and hands its position over with every batch, a few kilobytes of JSON; going on from it gives the
examples that would have come, without reading more of what was before than the rows that are shuffled together.

Shape vocabulary: as in `jointdetr/data/examples.py`.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch.utils.data import DataLoader, get_worker_info
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.examples import (
    Example,
    PoseDataset,
    PoseExamples,
    PoseMixture,
    collate_poses,
    stack_labels,
    unstack_labels,
)
from ..data.loading import POSE_COLUMNS, PoseRows, describe_row, load_pose_dataset, misfit
from ..data.mixing import RowMixture, RowReader, Share, prepare_source
from ..evaluation.evaluate import evaluate_model, fit_baselines
from ..evaluation.prediction import EvaluationSettings
from ..skeleton_jointdetr import HUMAN36M, Skeleton
from ..synthesis.rows import PersonRows, RowSettings, person_seed
from .recipe import DataSource, Recipe

logger = logging.getLogger(__name__)

PREFETCHED = 4  # batches of each worker
TRAINING_PEOPLE = 7_919_000_003  # keeps people in training apart from those that `synthesize` draws by the same seed
VIEW_STREAM = 1  # keeps a view's numbers apart from those that the person is drawn from
POSITION = "stream_position"


class ExampleStream(torch.utils.data.IterableDataset, ABC):
    """Examples of `PoseExamples` that processes and workers share, from any position that was given out before."""

    start_method: str | None = None  # how workers have to be started; None as Python does it
    batch_size = 1
    last_worker = -1  # that gave a batch, when the run stopped

    def __init__(self, examples: PoseExamples, share: Share):
        self.examples, self.share = examples, share
        self.starts: dict[int, dict[str, Any]] = {}  # positions from which the workers of the next iteration go on

    @abstractmethod
    def position(self) -> dict[str, Any]:
        """Where this worker's iteration is, ready for JSON."""

    @abstractmethod
    def _draw(self, worker: int, start: dict[str, Any] | None) -> Iterator[Example]:
        """The examples of a worker, from a position or from the beginning."""

    def __iter__(self) -> Iterator[Example | None]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        if info is not None and worker <= self.last_worker < info.num_workers - 1:
            yield from repeat(None, self.batch_size)  # an empty batch, as it is another worker's turn
        yield from self._draw(worker, self.starts.get(worker))


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

    def _draw(self, worker: int, start: dict[str, Any] | None) -> Iterator[Example]:
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
    """Crops of synthetic people, a new one each time, posed and rendered a group of `at_once` at a time.

    Rows are those that `jointdetr synthesize` writes; person and view depend on the settings, the person's number and
    `at_once` alone. Workers of all processes take turns at groups of numbers: however many, they draw the same people.
    """

    def __init__(self, settings: RowSettings, examples: PoseExamples, share: Share, at_once: int = 32):
        super().__init__(examples, share)
        if examples.skeleton.name != HUMAN36M.name:
            raise ValueError(f"synthetic people have the joints of {HUMAN36M.name!r}, got {examples.skeleton.name!r}")
        if at_once < 1:
            raise ValueError(f"`train.synthesis.at_once` must be at least 1, got {at_once}")
        self.settings, self.at_once, self._count = settings, at_once, 0
        if settings.device != "cpu":
            self.start_method = "spawn"  # a forked process cannot use CUDA

    def position(self) -> dict[str, Any]:
        """How many people this worker has drawn."""
        return {"count": self._count}

    def _draw(self, worker: int, start: dict[str, Any] | None) -> Iterator[Example]:
        self._count = start["count"] if start else 0
        people = PersonRows(self.settings)  # here, as a GPU's tensors are of no use in a worker
        workers = max(1, self.share.workers)
        reader, readers = self.share.process * workers + worker, self.share.processes * workers
        while True:
            group, done = divmod(self._count, self.at_once)  # after a resume, the group is drawn again as it was
            first = (group * readers + reader) * self.at_once
            numbers = range(first, first + self.at_once)
            for number, row in list(zip(numbers, people.render(numbers), strict=True))[done:]:
                rng = np.random.default_rng((self.settings.seed, number, VIEW_STREAM))
                self._count += 1
                yield self.examples.example(row, rng)


class BlendedStream(ExampleStream):
    """Several endless streams of one skeleton and one share in one, drawn by weight."""

    def __init__(self, parts: Sequence[ExampleStream], weights: Sequence[float], seed: int = 0):
        super().__init__(parts[0].examples, parts[0].share)
        if min(weights) <= 0.0:
            raise ValueError(f"the weights of sources and synthesis must be positive, got {list(weights)}")
        self.parts, self.weights, self.seed = parts, weights, seed
        self.start_method = next((part.start_method for part in parts if part.start_method), None)
        self._counts, self._positions = [0] * len(parts), [None] * len(parts)  # None: never drawn from

    def position(self) -> dict[str, Any]:
        """Where this worker's iteration is, in each part."""
        return {"counts": list(self._counts), "parts": list(self._positions)}

    def _draw(self, worker: int, start: dict[str, Any] | None) -> Iterator[Example]:
        start = start or {"counts": [0] * len(self.parts), "parts": [None] * len(self.parts)}
        self._counts, self._positions = list(start["counts"]), list(start["parts"])
        for part, position in zip(self.parts, self._positions, strict=True):
            part.starts = {worker: position} if position else {}
        iterators = [iter(part) for part in self.parts]
        probabilities = np.array(self.weights) / np.sum(self.weights)
        while True:
            rng = np.random.default_rng((self.seed, self.share.process, worker, sum(self._counts)))
            number = int(rng.choice(len(self.parts), p=probabilities))
            example = next(iterators[number], None)
            if example is None:
                raise ValueError(f"worker {worker} must have a shard of each source, got none: start fewer workers")
            self._counts[number] += 1
            self._positions[number] = self.parts[number].position()
            yield example


class StreamLoader(DataLoader):
    """Batches of a stream; knows where the batches that it has given out end."""

    def __init__(self, stream: ExampleStream, **kwargs: Any):
        if kwargs.get("num_workers"):
            kwargs["multiprocessing_context"] = stream.start_method
        # a generator of its own, so that beginning anew, as after a resume, draws nothing from the model's numbers
        super().__init__(stream, collate_fn=_collate_with_position, generator=torch.Generator(), **kwargs)
        stream.batch_size = self.batch_size
        self.positions: dict[int, dict[str, Any]] = {}
        self._last_worker = -1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in super().__iter__():
            worker, position = batch.pop(POSITION)
            if batch:
                self._last_worker = worker
                self.positions[worker] = position or self.dataset.position()
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
        self.dataset.starts = dict(self.positions)

    def _sharing(self) -> dict[str, int]:
        share = self.dataset.share
        return {"process": share.process, "processes": share.processes, "workers": self.num_workers}


def _collate_with_position(examples: Sequence[Example | None]) -> dict[str, Any]:
    """Make a batch that says which worker it comes from, and where that is now; None in the main process."""
    info = get_worker_info()
    worker = 0 if info is None else info.id
    if examples[0] is None:
        return {POSITION: (worker, None)}
    position = None if info is None else info.dataset.position()
    batch = collate_poses(examples)
    # each tensor that a worker hands over costs a file descriptor, and there are several for each crop
    return batch | {"labels": stack_labels(batch["labels"]), POSITION: (worker, position)}


def training_data(recipe: Recipe, examples: PoseExamples, state: PartialState) -> PoseMixture | ExampleStream:
    """Stored rows one after another, or a stream of which this process, which `state` knows, reads its part."""
    data = recipe.train
    if not data.sources and data.synthesis is None:
        raise ValueError("`train.sources` must name at least one dataset, or `train.synthesis` be given; got neither")
    for number, source in enumerate(data.sources):
        if data.is_stream and source.repeat != 1:
            raise ValueError(f"`train.sources[{number}].repeat` must be 1 with streaming: give a `weight` instead")
        if not data.is_stream and (source.weight != 1.0 or source.map_skeleton):
            raise ValueError(f"`train.sources[{number}]` needs `train.streaming` for its `weight` or `map_skeleton`")
    if data.is_stream and recipe.schedule.max_steps is None:
        raise ValueError("`schedule.max_steps` must say how long to train with streaming, as streams have no end")
    if data.is_stream:
        return _training_stream(recipe, examples, state)
    parts = []
    for source in data.sources:
        rows = load_source(source)
        for _ in range(source.repeat):
            parts.append(PoseDataset(rows, examples, recipe.seed + len(parts)))
    return PoseMixture(parts)


def _training_stream(recipe: Recipe, examples: PoseExamples, state: PartialState) -> ExampleStream:
    """Rows of the sources mixed by weight, synthetic people, or both."""
    data = recipe.train
    share = Share(state.process_index, state.num_processes, data.workers)
    parts, weights = [], []
    if data.sources:
        sources = [prepare_source(load_source(s, True), examples.skeleton, s.map_skeleton) for s in data.sources]
        of_sources = [source.weight for source in data.sources]
        mixture = RowMixture(sources, of_sources, recipe.seed, data.shuffle_buffer, share)
        parts.append(PoseStream(mixture, examples))
        weights.append(sum(of_sources))
    if data.synthesis is not None:
        on_gpu = data.synthesis.device == "auto" and state.device.type == "cuda"
        shown = {name: getattr(data.synthesis, name) for name in ("size", "preset", "supersampling", "motions")}
        seed = person_seed(recipe.seed, TRAINING_PEOPLE)
        settings = RowSettings(**shown, seed=seed, device=str(state.device) if on_gpu else "cpu")
        parts.append(SyntheticStream(settings, examples, share, data.synthesis.at_once))
        weights.append(data.synthesis.weight)
    return parts[0] if len(parts) == 1 else BlendedStream(parts, weights, recipe.seed)


def make_loader(data: PoseMixture | ExampleStream, recipe: Recipe, accelerator: Accelerator) -> DataLoader:
    """Load a stream, which is shared out already, by itself, and stored rows, shuffled, through Accelerate."""
    workers = recipe.train.workers
    settings = {
        "batch_size": recipe.batch_size,
        "num_workers": workers,
        "prefetch_factor": PREFETCHED if workers else None,
        "pin_memory": accelerator.device.type == "cuda",
    }
    if isinstance(data, ExampleStream):
        return StreamLoader(data, **settings)
    own = torch.Generator()  # so that beginning anew, as after a resume, draws nothing from the model's numbers
    loader = DataLoader(data, shuffle=True, collate_fn=collate_poses, generator=own, **settings)
    return accelerator.prepare_data_loader(loader, device_placement=False)


class Evaluation:
    """Measures models, beside baselines fitted to the first training source that has the skeleton itself."""

    def __init__(self, recipe: Recipe, processor: BaseImageProcessor, skeleton: Skeleton, device: torch.device):
        self.processor = processor
        self.sources = [load_source(source) for source in recipe.evaluation.sources]
        own = [source for source in recipe.train.sources if not source.map_skeleton] or recipe.evaluation.sources
        self.baselines = fit_baselines(load_source(own[0], recipe.train.is_stream), skeleton)
        measured, workers = recipe.evaluation, recipe.train.workers
        self.settings = EvaluationSettings(measured.threshold, measured.batch_size, workers, str(device))

    def measure(self, model: PreTrainedModel) -> dict[str, float]:
        """Print what is found, and return all numbers with `eval_` before their names."""
        rows = datasets.concatenate_datasets([source.select_columns(list(POSE_COLUMNS)) for source in self.sources])
        result = evaluate_model(model, self.processor, rows, self.settings, self.baselines)
        result.print_summary()
        return {f"eval_{name}": value for name, value in result.flat().items()}


def load_source(source: DataSource, streaming: bool = False, columns: Collection[str] = POSE_COLUMNS) -> PoseRows:
    """Load one source of rows, which must have the columns."""
    rows = load_pose_dataset(source.path, source.split, streaming, columns)
    return rows if source.limit is None else rows.take(source.limit)
