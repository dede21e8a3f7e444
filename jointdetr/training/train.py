"""Training of a pose model from a recipe.

`python -m jointdetr.training.train --config RECIPE.yaml [--resume] [section.key=value ...]`

The same works under `accelerate launch -m jointdetr.training.train ...` for several GPUs or machines. On a CPU, set
`OMP_NUM_THREADS` to the number of cores less one per data worker if those are busy; and
`MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296` in the environment keeps glibc from giving memory
back to the kernel at every step, which is sometimes faster.

The output folder gets `recipe.yaml`, `checkpoint-*` to resume from, `pictures` of a few people as training goes on,
the whole log in `log.json`, `evaluation.json`, and two models with their image processors, for `from_pretrained`: the
one with the smallest evaluated error so far in `best`, and the last one in `final`.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import datasets
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import InitProcessGroupKwargs
from transformers import PreTrainedModel, set_seed

from ..configuration_jointdetr import JointDetrConfig
from ..data.examples import PoseDataset, PoseExamples, PoseMixture
from ..data.loading import POSE_COLUMNS
from ..evaluation.evaluate import evaluate_model, fit_baselines
from ..evaluation.prediction import EvaluationSettings
from ..formats.skeletons import find_skeleton, skeleton_from_dict
from ..image_processing_jointdetr import JointDetrImageProcessorPil
from ..loss_jointdetr import PoseLabels
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..refinement_jointdetr import JointRefiner
from ..skeleton_jointdetr import Skeleton
from .adaptation import adapt_to_skeleton, skeleton_fields
from .augmentation import AugmentedExamples
from .checkpoints import last_checkpoint
from .engine import Engine, Parts
from .recipe import Recipe, load_recipe, save_recipe
from .tracking import RUN_NAME_FILE, available_tracker, name_run, start_trackers
from .training_data import load_source, training_data
from .watching import what_to_watch

PATIENCE = timedelta(hours=4)  # of processes that wait while the main one evaluates

MEAN_POSES = 2000  # people whose joints' mean new queries start at


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves.

    Args:
        folder: the final model with its image processor.
        model: the final model, with averaged weights if the recipe has them.
        metrics: of the final evaluation; empty without evaluation data.
    """

    folder: Path
    model: PreTrainedModel
    metrics: dict[str, float]


def train(recipe: Recipe, resume: bool = False, model: PreTrainedModel | None = None) -> TrainingResult:
    """Train, evaluate and save a model.

    Args:
        recipe: the run.
        resume: go on from the last checkpoint in `recipe.output`; see `engine.py` for what is exact.
        model: to be trained instead of the one that the recipe describes; see `build_engine`.

    Raises:
        ValueError: There is nothing to train on, the data do not fit the skeleton, there is no checkpoint or a
            damaged one, or the output folder holds another run.
    """
    if not recipe.train.sources and recipe.train.synthesis is None:
        raise ValueError("`train.sources` must name at least one dataset, or `train.synthesis` be given; got neither")
    output = Path(recipe.output)
    if not resume and (any(output.glob("checkpoint-*")) or (output / "final").exists()):
        raise ValueError(f"`output` must be a folder without a run, got {output}; --resume goes on with the run there")
    checkpoint = last_checkpoint(output) if resume else None
    set_seed(recipe.seed)
    engine = build_engine(recipe, model)
    if checkpoint is not None:
        engine.resume(checkpoint)
    run_name = name_run(output, resume)
    if engine.accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, output / "recipe.yaml")
        (output / RUN_NAME_FILE).write_text(run_name + "\n")
    start_trackers(engine.accelerator, run_name)
    engine.run()
    metrics = engine.evaluate() if recipe.evaluation.sources else {}
    engine.save_model(output / "final")
    if engine.accelerator.is_main_process:
        engine.write_log()
        (output / "evaluation.json").write_text(json.dumps(metrics, indent=2) + "\n")
    for tracker in engine.accelerator.trackers:
        tracker.finish()
    trained = engine.accelerator.unwrap_model(engine.shown_model, keep_fp32_wrapper=False)
    return TrainingResult(output / "final", trained, metrics)


def build_engine(recipe: Recipe, model: PreTrainedModel | None = None) -> Engine:
    """Put model, data and loop together.

    Args:
        recipe: the run.
        model: to be trained instead of the one that the recipe describes; it takes and gives what
            `JointDetrForPoseEstimation` with fixed alignment does.
    """
    accelerator = make_accelerator(recipe)
    skeleton = resolve_skeleton(recipe)
    is_new = model is None and recipe.model.init_from is None
    model = build_model(recipe, skeleton) if model is None else model
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    processor = build_processor(recipe)
    examples = AugmentedExamples(processor, skeleton, recipe.augmentation)
    data = training_data(recipe, examples, accelerator)
    if is_new and isinstance(data, PoseMixture):
        start_at_mean_pose(model, data)
    watched = None
    if recipe.watch_steps != 0:
        plain = PoseExamples(processor, skeleton)
        watched = what_to_watch(recipe, plain, _evaluation_crops(recipe, plain))
    evaluate = _evaluation(recipe, skeleton, processor, str(accelerator.device))
    return Engine(recipe, Parts(model, processor, data, evaluate, watched), accelerator)


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Make the accelerator of a run, which knows the processes, the device and the tracker."""
    for state in (AcceleratorState, GradientState):
        state._reset_state()  # an earlier run of this process may have had another precision
    return Accelerator(
        cpu=recipe.device == "cpu",
        mixed_precision="bf16" if recipe.precision == "bf16" else "no",
        gradient_accumulation_steps=recipe.accumulation,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=recipe.seed),
        log_with=available_tracker(recipe.report_to),
        project_dir=recipe.output,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def build_model(recipe: Recipe, skeleton: Skeleton) -> JointDetrForPoseEstimation:
    """Make the recipe's model, with whatever weights it starts from.

    Raises:
        ValueError: Starting points are given that do not go together, or one that does not fit, such as a refinement
            network for another skeleton.
    """
    settings = recipe.model
    if settings.deformable_detr_from is not None and (settings.init_from or settings.backbone_from):
        raise ValueError(
            "`model.deformable_detr_from` must stand without `init_from` and `backbone_from`, "
            f"got {settings.init_from!r} and {settings.backbone_from!r}"
        )
    if settings.init_from is not None:
        fields = JointDetrConfig.from_pretrained(settings.init_from).to_dict() | settings.config
        model = JointDetrForPoseEstimation.from_pretrained(
            settings.init_from,
            config=JointDetrConfig.from_dict(fields),
            dtype=torch.float32,
            ignore_mismatched_sizes="backbone_config" in settings.config,  # projections of another backbone's stages
        )
        own = model.config.skeleton
        if (own.joints, own.parents, own.root) != (skeleton.joints, skeleton.parents, skeleton.root):
            model = adapt_to_skeleton(model, skeleton)
    elif settings.deformable_detr_from is not None:
        fields = _config_fields(recipe, skeleton)
        model = JointDetrForPoseEstimation.from_deformable_detr(settings.deformable_detr_from, **fields)
    else:
        model = JointDetrForPoseEstimation(JointDetrConfig(**_config_fields(recipe, skeleton)))
    if settings.backbone_from is not None:
        _load_backbone_weights(model, settings.backbone_from)
    if settings.refiner is not None:
        model.set_refiner(JointRefiner.from_pretrained(settings.refiner, dtype=torch.float32))
    if model.refiner is not None:
        model.refiner.requires_grad_(False)  # loading has thawed it; several processes would wait for its gradient
    return model


def start_at_mean_pose(model: JointDetrForPoseEstimation, examples: PoseMixture) -> None:
    """Let the queries of a new model start where the joints of the training people are on average.

    Of at most `MEAN_POSES` people, spread over the data; joints that none of them has stay at the root.
    """
    start = model.model.query_start
    if start is None:
        return
    step = max(1, len(examples) // MEAN_POSES)
    labels = [examples.pose_labels(index) for index in range(0, len(examples), step)]
    stacked = PoseLabels.from_list(labels, model.config, model.device)
    joints, points = (
        (values * valid[..., None]).sum(0) / valid.sum(0)[:, None].clamp(min=1)
        for values, valid in ((stacked.joints, stacked.joints_valid), (stacked.points, stacked.points_valid))
    )
    start.stand_as(joints, torch.where(stacked.points_valid.any(0)[:, None], points, 0.5))


def build_processor(recipe: Recipe) -> JointDetrImageProcessorPil:
    """Make the image processor that belongs to the recipe's model."""
    size = {"height": recipe.input.height, "width": recipe.input.width}
    root = resolve_skeleton(recipe).root
    return JointDetrImageProcessorPil(size=size, box_padding=recipe.input.padding, root_joint=root)


def resolve_skeleton(recipe: Recipe) -> Skeleton:
    """Return the recipe's skeleton: one of `SKELETONS`, or one that a JSON file or the recipe itself describes.

    Raises:
        ValueError: The name is unknown, or the description is none of a skeleton.
    """
    if isinstance(recipe.skeleton, str):
        return find_skeleton(recipe.skeleton)
    try:
        return skeleton_from_dict(recipe.skeleton)
    except ValueError as error:
        raise ValueError(f"`skeleton` of the recipe must describe one: {error}") from error


def _config_fields(recipe: Recipe, skeleton: Skeleton) -> dict:
    """Arguments of `JointDetrConfig`: the skeleton, then the recipe's."""
    return skeleton_fields(skeleton) | {"flip_pairs": skeleton.flip_pairs} | recipe.model.config


def _load_backbone_weights(model: JointDetrForPoseEstimation, source: str) -> None:
    """Give the model's backbone the weights of a trained one of the same architecture."""
    own = model.model.backbone
    # the class itself and not AutoBackbone, which takes every path for the name of a repository
    trained = type(own).from_pretrained(source, out_features=list(own.out_features), dtype=torch.float32)
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (own, trained)]
    if shapes[0] != shapes[1]:
        differing = sum(shapes[1].get(name) != shape for name, shape in shapes[0].items())
        raise ValueError(
            f"`model.backbone_from` must be a {type(own).__name__} of the recipe's size, "
            f"got one with {differing} weights of another shape"
        )
    own.load_state_dict(trained.state_dict())


def _evaluation_crops(recipe: Recipe, examples: PoseExamples) -> PoseMixture | None:
    """All evaluation sources as plain crops, to look at."""
    parts = [PoseDataset(load_source(source), examples) for source in recipe.evaluation.sources]
    return PoseMixture(parts) if parts else None


def _evaluation(
    recipe: Recipe, skeleton: Skeleton, processor: JointDetrImageProcessorPil, device: str
) -> Callable[[PreTrainedModel], dict[str, float]] | None:
    """How to measure a model on all evaluation sources and print what is found; None without any.

    Trivial baselines are fitted to the first training source that has the skeleton itself.
    """
    if not recipe.evaluation.sources:
        return None
    parts = [load_source(source).select_columns(list(POSE_COLUMNS)) for source in recipe.evaluation.sources]
    rows = datasets.concatenate_datasets(parts)
    own = [source for source in recipe.train.sources if not source.map_skeleton] or recipe.evaluation.sources
    baselines = fit_baselines(load_source(own[0], recipe.train.is_stream), skeleton)
    settings = EvaluationSettings(
        recipe.evaluation.threshold,
        batch_size=recipe.evaluation.batch_size,
        device=device,
        workers=recipe.train.workers,
    )

    def measure(model: PreTrainedModel) -> dict[str, float]:
        result = evaluate_model(model, processor, rows, settings, baselines)
        result.print_summary()
        return result.flat()

    return measure


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train a pose model from a recipe.")
    parser.add_argument("--config", required=True, help="YAML file, or the name of a recipe of the package")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args(arguments)
    result = train(load_recipe(options.config, options.overrides), options.resume)
    print(f"saved {result.folder}")


if __name__ == "__main__":
    main()
