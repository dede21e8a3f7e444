"""What a recipe trains on, stored rows or streams, and what it is measured on."""

from collections.abc import Collection

import datasets
import torch
from accelerate import Accelerator, PartialState
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..data.examples import PoseDataset, PoseExamples, PoseMixture, collate_poses
from ..data.loading import POSE_COLUMNS, PoseRows, load_pose_dataset
from ..data.mixing import RowMixture, Share, prepare_source
from ..evaluation.evaluate import evaluate_model, fit_baselines
from ..evaluation.prediction import EvaluationSettings
from ..skeleton_jointdetr import Skeleton
from ..synthesis.rows import RowSettings
from .recipe import DataSource, Recipe
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
    """Stored rows one after another, or a stream of which this process, which `state` knows, reads its part.

    Raises:
        ValueError: There are no sources, they have keys that do not go together, or do not fit the skeleton.
    """
    _check_sources(recipe)
    if recipe.train.is_stream:
        return _training_stream(recipe, examples, state)
    parts = []
    for source in recipe.train.sources:
        rows = load_source(source)
        for _ in range(source.repeat):
            parts.append(PoseDataset(rows, examples, recipe.seed + len(parts)))
    return PoseMixture(parts)


def _check_sources(recipe: Recipe) -> None:
    """Refuse keys of the sources that the chosen way of reading does not heed."""
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
        settings = RowSettings(
            seed=training_people_seed(recipe.seed),
            size=data.synthesis.size,
            preset=data.synthesis.preset,
            supersampling=data.synthesis.supersampling,
            motions=data.synthesis.motions,
            device=str(state.device) if on_gpu else "cpu",
        )
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
    """Measures models on all evaluation sources.

    Trivial baselines are fitted to the first training source that has the skeleton itself.
    """

    def __init__(self, recipe: Recipe, processor: BaseImageProcessor, skeleton: Skeleton, device: torch.device):
        self.processor = processor
        self.sources = [load_source(source) for source in recipe.evaluation.sources]
        own = [source for source in recipe.train.sources if not source.map_skeleton] or recipe.evaluation.sources
        self.baselines = fit_baselines(load_source(own[0], recipe.train.is_stream), skeleton)
        self.settings = EvaluationSettings(
            recipe.evaluation.threshold,
            batch_size=recipe.evaluation.batch_size,
            device=str(device),
            workers=recipe.train.workers,
        )

    def crops(self, examples: PoseExamples) -> PoseMixture:
        """All people as examples."""
        return PoseMixture([PoseDataset(source, examples) for source in self.sources])

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
