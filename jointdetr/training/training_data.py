"""What a recipe trains on: stored rows, streams of them, synthetic people who are drawn as training goes on."""

from collections.abc import Collection

import torch
from accelerate import Accelerator, PartialState
from torch.utils.data import DataLoader

from ..data.examples import PoseDataset, PoseExamples, PoseMixture, collate_poses
from ..data.loading import POSE_COLUMNS, PoseRows, load_pose_dataset
from ..data.mixing import RowMixture, Share, prepare_source
from ..synthesis.rows import RowSettings
from .recipe import DataSource, Recipe, SynthesisRecipe
from .stream import (
    BlendedStream,
    ExampleStream,
    PoseStream,
    StreamLoader,
    SyntheticStream,
    training_people_seed,
)

PREFETCHED = 4  # batches of each worker


def training_data(recipe: Recipe, examples: PoseExamples, state: PartialState) -> PoseMixture | ExampleStream:
    """Stored rows one after another, or a stream of which this process reads its part.

    Args:
        recipe: says what to train on.
        examples: turns rows into examples.
        state: knows the process, how many there are, and the device; an `Accelerator` does too.

    Raises:
        ValueError: The recipe's sources have keys that do not go together, or the data do not fit the skeleton.
    """
    _require_one_way_of_mixing(recipe)
    if recipe.train.is_stream:
        return _training_stream(recipe, examples, state)
    parts = []
    for source in recipe.train.sources:
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
        settings = _row_settings(recipe, data.synthesis, state.device)
        parts.append(SyntheticStream(settings, examples, share, data.synthesis.at_once))
        weights.append(data.synthesis.weight)
    return parts[0] if len(parts) == 1 else BlendedStream(parts, weights, recipe.seed)


def _row_settings(recipe: Recipe, synthesis: SynthesisRecipe, device: torch.device) -> RowSettings:
    """Who is drawn, and how, when people are drawn as training goes on."""
    on_gpu = synthesis.device == "auto" and device.type == "cuda"
    return RowSettings(
        seed=training_people_seed(recipe.seed),
        size=synthesis.size,
        preset=synthesis.preset,
        supersampling=synthesis.supersampling,
        motions=synthesis.motions,
        device=str(device) if on_gpu else "cpu",
    )


def _require_one_way_of_mixing(recipe: Recipe) -> None:
    """Refuse keys of the sources that the chosen way of reading does not heed."""
    for number, source in enumerate(recipe.train.sources):
        if recipe.train.is_stream and source.repeat != 1:
            raise ValueError(f"`train.sources[{number}].repeat` must be 1 with streaming: give a `weight` instead")
        if not recipe.train.is_stream and (source.weight != 1.0 or source.map_skeleton):
            raise ValueError(f"`train.sources[{number}]` needs `train.streaming` for its `weight` or `map_skeleton`")
    if recipe.train.is_stream and recipe.schedule.max_steps is None:
        raise ValueError("`schedule.max_steps` must say how long to train with streaming, as streams have no end")


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


def load_source(source: DataSource, streaming: bool = False, columns: Collection[str] = POSE_COLUMNS) -> PoseRows:
    """Load one source of rows, which must have the columns."""
    rows = load_pose_dataset(source.path, source.split, streaming, columns)
    return rows if source.limit is None else rows.take(source.limit)
