"""Streams of rows from several pose datasets: mixed by weight, shuffled, and shared out to processes and workers.

Every process takes its own shards of every source, or every so many rows where there are fewer shards than processes,
and its workers share these. So no row is seen twice in a pass, unless its source is drawn from so often that it ends
before the others and begins again.

Shape vocabulary: `joints` (J) of the skeleton.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import datasets
import numpy as np
from datasets.distributed import split_dataset_by_node

from ..skeleton_jointdetr import SKELETONS, Skeleton
from .loading import check_rows, first_labels, undecoded
from .schema import NOBODY, pose_features
from .skeleton_mapping import map_row, mapping_weights

_UNSHUFFLED_BLOCK = 64  # rows


@dataclass(frozen=True)
class Share:
    """Which part of the data a process reads.

    Args:
        process: number of this process, over all machines.
        processes: how many there are.
        workers: of each process; sources with too few shards for all of them are split further where they can be.
    """

    process: int = 0
    processes: int = 1
    workers: int = 0


@dataclass(frozen=True)
class RowMixture:
    """Rows of several sources, drawn by weight.

    Args:
        sources: streams with the columns of `pose_features`, all of one skeleton.
        weights: how often each is drawn from, relative to the others.
        seed: of shuffling and drawing.
        buffer: rows for each source that are held to be shuffled; 0 keeps the order of the data.
        share: which part this process reads.

    Raises:
        ValueError: There is no source, or the weights are not positive, one a source.
    """

    sources: Sequence[datasets.IterableDataset]
    weights: Sequence[float]
    seed: int = 0
    buffer: int = 0
    share: Share = Share()

    def __post_init__(self) -> None:
        if not self.sources or len(self.weights) != len(self.sources):
            raise ValueError(f"a mixture needs one weight a source, got {len(self.weights)} for {len(self.sources)}")
        if min(self.weights) <= 0.0:
            raise ValueError(f"the weights of a mixture must be positive, got {list(self.weights)}")

    def rows(self, passage: int = 0) -> datasets.IterableDataset:
        """The rows of one pass, with pictures as bytes; each pass has its own order of shards.

        A pass ends when every source has been read to its end.
        """
        # one number for both, so that neighbouring seeds have nothing in common
        seed = int(np.random.SeedSequence((self.seed, passage)).generate_state(1)[0])
        parts = [self._prepared(source, seed) for source in self.sources]
        fewest = min(part.num_shards for part in parts)
        strategy = "shards" if fewest >= self.share.processes else "examples"
        split = [split_dataset_by_node(part, self.share.process, self.share.processes, strategy) for part in parts]
        # one source, too: `datasets` cannot go on in a worker with shards that are shuffled but not interleaved
        probabilities = (np.array(self.weights) / np.sum(self.weights)).tolist()
        return datasets.interleave_datasets(split, probabilities, seed=seed, stopping_strategy="all_exhausted")

    def _prepared(self, source: datasets.IterableDataset, seed: int) -> datasets.IterableDataset:
        """Undecoded, in enough shards if possible, whose order is shuffled; by the same seed in all processes."""
        source = undecoded(source)
        if source.num_shards < self.share.processes * max(1, self.share.workers):
            source = source.reshard()
        if not self.buffer:
            return source
        # as Python objects: pyarrow gives the values of other rows when it gathers from a slice of nested lists of
        # fixed lengths, which `pose_features` avoids, but not every source
        source = source.map(dict, features=source.features)
        return source.shuffle(seed=seed, buffer_size=1)  # rows are `RowReader`'s, which can go on exactly


class RowReader:
    """Reads the rows of one pass of a mixture, shuffled block by block; can stop anywhere and go on from there.

    Going on from the `position` of an earlier reader of the same pass opens the shards where the block begins, and
    reads the block once more.
    """

    def __init__(self, mixture: RowMixture, passage: int, position: dict[str, Any] | None = None):
        self._rows = mixture.rows(passage)
        self._seed = (mixture.seed, passage) if mixture.buffer else None
        self._size = mixture.buffer * len(mixture.sources) or _UNSHUFFLED_BLOCK
        start = position or {"begin": None, "block": 0, "given": 0}
        self._begin, self._block, self._given = start["begin"], start["block"], start["given"]

    def position(self) -> dict[str, Any]:
        """Where the block begins, its number, and how many of its rows were given out; ready for JSON."""
        return {"begin": self._begin, "block": self._block, "given": self._given}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._begin is not None:
            self._rows.load_state_dict(self._begin)
        rows = iter(self._rows)
        logger = logging.getLogger("datasets.iterable_dataset")
        level = logger.level
        try:
            logger.setLevel(logging.ERROR)  # it warns that rows of its shuffle buffer are lost: here it has none
            rows = chain(list(islice(rows, 1)), rows)  # here it opens the shards
        finally:
            logger.setLevel(level)
        while block := list(islice(rows, self._size)):
            order = range(len(block))
            if self._seed is not None:
                order = np.random.default_rng((*self._seed, self._block)).permutation(len(block)).tolist()
            for number in order[self._given :]:
                self._given += 1
                yield block[number]
            self._begin, self._block, self._given = self._rows.state_dict(), self._block + 1, 0


def prepare_source(rows: datasets.IterableDataset, skeleton: Skeleton, mapped: bool) -> datasets.IterableDataset:
    """Make a stream fit to be mixed with others of a skeleton, to which it is `mapped` from one of `SKELETONS`."""
    name = first_labels(rows)["skeleton"]
    rows = undecoded(rows)
    if NOBODY not in rows.column_names:
        features = datasets.Features(rows.features | {NOBODY: datasets.Value("bool")})
        rows = rows.map(partial(dict, **{NOBODY: False}), features=features)
    common = pose_features(len(skeleton.joints), nobody=True)  # of all sources, with pictures as they are stored
    common["image"] = datasets.Image(decode=False)
    if not mapped or name == skeleton.name:
        check_rows(rows, skeleton)
        return rows.cast(datasets.Features(rows.features | common))
    if name not in SKELETONS:
        raise ValueError(f"only rows of the skeletons {sorted(SKELETONS)} can be mapped, got {name!r}")
    if not mapping_weights(SKELETONS[name], skeleton)[1].any():
        raise ValueError(f"no joint of skeleton {skeleton.name!r} can be had from skeleton {name!r}")
    rows = rows.select_columns(list(common))
    return rows.map(row_in_skeleton, fn_kwargs={"skeleton": skeleton}, features=common)


def row_in_skeleton(row: Mapping[str, Any], skeleton: Skeleton) -> dict[str, Any]:
    """Map the joints of a row of any of `SKELETONS` to another skeleton."""
    return map_row(row, SKELETONS[row["skeleton"]], skeleton) | {"skeleton": skeleton.name}
