"""Training on streams: examples of a row mixture without random access, which can stop anywhere and go on from there.

Each worker reads its own part, and hands its position over with every batch. A position is a few hundred bytes of
JSON; going on from it opens the shard and the row where the run stopped, without reading what was before. Rows that
waited in the shuffle buffer then are left out of that pass.

Shape vocabulary: as in `dataset.py`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data.mixing import RowMixture
from ..skeleton_jointdetr import Skeleton
from .dataset import PoseExamples, collate_poses

_POSITION = "stream_position"


class PoseStream(torch.utils.data.IterableDataset):
    """Crops of the people of a mixture, pass after pass.

    An example's view depends on the seed, the process, the worker and the number of examples before it there.

    Args:
        mixture: where rows come from.
        examples: turns them into examples.
        passes: how often to go through the data; None goes on for ever.
    """

    def __init__(self, mixture: RowMixture, examples: PoseExamples, passes: int | None = None):
        self.mixture = mixture
        self.examples = examples
        self.passes = passes
        self._starts: dict[int, dict[str, Any]] = {}
        self._passage = self._count = 0
        self._rows: datasets.IterableDataset | None = None

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the joints."""
        return self.examples.skeleton

    def load_positions(self, positions: dict[int, dict[str, Any]]) -> None:
        """Let the workers of the next iteration start from positions that `position` gave, by their number."""
        self._starts = positions

    def position(self) -> dict[str, Any]:
        """Where this worker's iteration is."""
        if self._rows is None:
            raise ValueError("a stream has a position once it is iterated over, got none")
        return {"passage": self._passage, "count": self._count, "rows": self._rows.state_dict()}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor | dict[str, torch.Tensor]]]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        start = self._starts.get(worker)
        self._passage, self._count = (start["passage"], start["count"]) if start else (0, 0)
        while self.passes is None or self._passage < self.passes:
            self._rows = self.mixture.rows(self._passage)
            if start:
                self._rows.load_state_dict(start["rows"])
            before = self._count
            for row in self._rows:
                rng = np.random.default_rng((self.mixture.seed, self.mixture.share.process, worker, self._count))
                self._count += 1
                yield self.examples.example(row, rng)
            if self._count == before and not start:
                return  # no shard is left for this worker
            start = None
            self._passage += 1


class StreamLoader(DataLoader):
    """Batches of a `PoseStream`; knows where the batches that it has given out end.

    Args:
        stream: what to load.
        kwargs: arguments of `DataLoader`.
    """

    def __init__(self, stream: PoseStream, **kwargs: Any):
        super().__init__(stream, collate_fn=_collate_with_position, **kwargs)
        self.positions: dict[int, dict[str, Any]] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in super().__iter__():
            worker, position = batch.pop(_POSITION)
            self.positions[worker] = position or self.dataset.position()
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Positions of all workers, and how the data are shared out, ready for JSON."""
        return self._sharing() | {"positions": {str(worker): value for worker, value in self.positions.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state in the next iteration.

        Raises:
            ValueError: The data were shared out to another number of processes or workers.
        """
        here = self._sharing()
        there = {name: state[name] for name in here}
        if here != there:
            raise ValueError(f"a stream goes on with the processes and workers it had, {there}, got {here}")
        self.positions = {int(worker): value for worker, value in state["positions"].items()}
        self.dataset.load_positions(dict(self.positions))

    def _sharing(self) -> dict[str, int]:
        share = self.dataset.mixture.share
        return {"process": share.process, "processes": share.processes, "workers": self.num_workers}


class StreamCheckpoint(TrainerCallback):
    """Keeps the stream's position in the checkpoints, one file for each process.

    Args:
        resume_from: checkpoint folder to go on from.
    """

    def __init__(self, resume_from: Path | None = None):
        self.resume_from = resume_from

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start from the checkpoint's position."""
        if self.resume_from is not None:
            content = (self.resume_from / _file_name(args)).read_text()
            kwargs["train_dataloader"].load_state_dict(json.loads(content))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the position into the checkpoint that was just made."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / _file_name(args)).write_text(json.dumps(kwargs["train_dataloader"].state_dict()))


def _file_name(args: TrainingArguments) -> str:
    return f"{_POSITION}-{args.process_index}.json"


def _collate_with_position(examples: Sequence[dict]) -> dict[str, Any]:
    """Make a batch that says which worker it comes from, and where that is now; None in the main process."""
    info = get_worker_info()
    position = (0, None) if info is None else (info.id, info.dataset.position())
    return collate_poses(examples) | {_POSITION: position}
