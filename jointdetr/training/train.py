"""Training of a pose model from a recipe, on `transformers.Trainer`.

`python -m jointdetr.training.train --config RECIPE.yaml [--resume] [section.key=value ...]`

The same works under `accelerate launch -m jointdetr.training.train ...` for several GPUs or machines. On a CPU, set
`OMP_NUM_THREADS` to the number of cores less one per data worker if those are busy; and
`MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296` in the environment keeps glibc from giving memory
back to the kernel at every step, which is sometimes faster.

The output folder gets `recipe.yaml`, `checkpoint-*` to resume from, `evaluation.json`, and in `final` the model with
its image processor, ready for `from_pretrained`.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from ..adaptation import adapt_to_skeleton
from ..configuration_jointdetr import JointDetrConfig
from ..data.loading import PoseRows, load_pose_dataset
from ..data.mixing import RowMixture, Share, prepare_source
from ..data.skeleton_files import read_skeleton, skeleton_from_dict
from ..image_processing_jointdetr import JointDetrImageProcessorPil
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..refinement_jointdetr import JointRefiner
from ..skeleton_jointdetr import SKELETONS, Skeleton
from .dataset import CropSettings, PoseDataset, PoseExamples, PoseMixture, collate_poses
from .evaluate import PoseMetrics, fit_baselines
from .recipe import DataSource, Recipe, load_recipe, save_recipe
from .stream import PoseStream, StreamCheckpoint
from .trainer import AugmentationEpoch, ConsoleLog, PoseTrainer, RunControl, WeightAverage


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
        resume: go on from the last checkpoint in `recipe.output`.
        model: to be trained instead of the one that the recipe describes; see `build_trainer`.

    Raises:
        ValueError: There is nothing to train on, the data do not fit the skeleton, there is no checkpoint, or the
            output folder holds another run.
    """
    if not recipe.train.sources:
        raise ValueError("`train.sources` must name at least one dataset, got none")
    output = Path(recipe.output)
    if not resume and (any(output.glob("checkpoint-*")) or (output / "final").exists()):
        raise ValueError(f"`output` must be a folder without a run, got {output}; --resume goes on with the run there")
    checkpoint = _last_checkpoint(output) if resume else None
    set_seed(recipe.seed)
    trainer = build_trainer(recipe, checkpoint, model)
    if trainer.is_world_process_zero():
        output.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, output / "recipe.yaml")
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.average is not None:
        trainer.average.copy_to(trainer.model)
    metrics = trainer.evaluate() if recipe.evaluation.sources else {}
    trainer.save_model(str(output / "final"))
    if trainer.is_world_process_zero():
        (output / "final" / "training_args.bin").unlink()  # a pickle, with paths of this machine
        (output / "evaluation.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return TrainingResult(output / "final", trainer.model, metrics)


def build_trainer(recipe: Recipe, checkpoint: Path | None = None, model: PreTrainedModel | None = None) -> PoseTrainer:
    """Put model, data and `Trainer` together.

    Args:
        recipe: the run.
        checkpoint: the one that training will resume from.
        model: to be trained instead of the one that the recipe describes; it takes and gives what
            `JointDetrForPoseEstimation` with fixed alignment does.
    """
    skeleton = resolve_skeleton(recipe)
    model = build_model(recipe, skeleton) if model is None else model
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    processor = build_processor(recipe)
    average = WeightAverage(recipe.average_decay, checkpoint) if recipe.average_decay > 0.0 else None
    evaluation = _evaluation_data(recipe, skeleton, processor)
    often = (recipe.evaluation.every_epochs, recipe.evaluation.every_steps) if evaluation else (0, 0)
    control = RunControl(recipe.checkpoint_minutes, *often)
    order = StreamCheckpoint(checkpoint) if recipe.train.streaming else AugmentationEpoch()
    callbacks = [order, control, ConsoleLog()] + ([average] if average else [])
    arguments = _training_arguments(recipe)
    share = Share(arguments.process_index, arguments.world_size, recipe.train.workers)
    trainer = PoseTrainer(
        model=model,
        args=arguments,
        train_dataset=_training_data(recipe, skeleton, processor, share),
        eval_dataset=evaluation,
        data_collator=collate_poses,
        processing_class=processor,
        compute_metrics=_compute_metrics(recipe, evaluation, model) if evaluation else None,
        callbacks=callbacks,
        optimizer_settings=recipe.optimizer,
        schedule=recipe.schedule,
        average=average,
        channels_last=recipe.channels_last,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def build_model(recipe: Recipe, skeleton: Skeleton) -> JointDetrForPoseEstimation:
    """Make the recipe's model, with whatever weights it starts from.

    Raises:
        ValueError: More than one starting point is given, or one that does not fit, such as a refinement network for
            another skeleton.
    """
    settings = recipe.model
    starts = [settings.init_from, settings.backbone_from, settings.deformable_detr_from]
    if sum(start is not None for start in starts) > 1:
        raise ValueError(
            f"at most one of `model.init_from`, `backbone_from` and `deformable_detr_from` can be given, got {starts}"
        )
    if settings.init_from is not None:
        model = JointDetrForPoseEstimation.from_pretrained(settings.init_from, dtype=torch.float32, **settings.config)
        model = _fit_to_skeleton(model, skeleton)
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


def build_processor(recipe: Recipe) -> JointDetrImageProcessorPil:
    """Make the image processor that belongs to the recipe's model."""
    size = {"height": recipe.input.height, "width": recipe.input.width}
    return JointDetrImageProcessorPil(size=size, box_padding=recipe.input.padding)


def resolve_skeleton(recipe: Recipe) -> Skeleton:
    """Return the recipe's skeleton: one of `SKELETONS`, or one that a JSON file or the recipe itself describes.

    Raises:
        ValueError: The name is unknown, or the description is none of a skeleton.
    """
    if not isinstance(recipe.skeleton, str):
        try:
            return skeleton_from_dict(recipe.skeleton)
        except ValueError as error:
            raise ValueError(f"`skeleton` of the recipe must describe one: {error}") from error
    if recipe.skeleton in SKELETONS:
        return SKELETONS[recipe.skeleton]
    if recipe.skeleton.endswith(".json"):
        return read_skeleton(recipe.skeleton)
    raise ValueError(
        f"`skeleton` must be one of {sorted(SKELETONS)}, a .json file or a mapping, got {recipe.skeleton!r}"
    )


def load_source(source: DataSource, streaming: bool = False) -> PoseRows:
    """Load one source of rows."""
    rows = load_pose_dataset(source.path, source.split, streaming)
    return rows if source.limit is None else rows.take(source.limit)


def _config_fields(recipe: Recipe, skeleton: Skeleton) -> dict:
    """Arguments of `JointDetrConfig`: the skeleton, then the recipe's."""
    fields = {
        "id2label": dict(enumerate(skeleton.joints)),
        "joint_parents": list(skeleton.parents),
        "flip_pairs": [list(pair) for pair in skeleton.flip_pairs],
        "root_joint": skeleton.root,
    }
    return fields | recipe.model.config


def _fit_to_skeleton(model: JointDetrForPoseEstimation, skeleton: Skeleton) -> JointDetrForPoseEstimation:
    """Adapt a model whose joints are not the recipe's; the name and the flip pairs may differ."""
    own = model.config.skeleton
    if (own.joints, own.parents, own.root) == (skeleton.joints, skeleton.parents, skeleton.root):
        return model
    return adapt_to_skeleton(model, skeleton)


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


def _training_data(
    recipe: Recipe, skeleton: Skeleton, processor: JointDetrImageProcessorPil, share: Share
) -> PoseMixture | PoseStream:
    """All training sources, augmented: one after another, or mixed into a stream of which `share` is read."""
    crop = CropSettings.from_processor(processor, recipe.train.dense_reduction)
    _require_one_way_of_mixing(recipe)
    if recipe.train.streaming:
        examples = PoseExamples(skeleton, crop, recipe.augmentation)
        sources = recipe.train.sources
        streams = [prepare_source(load_source(s, streaming=True), skeleton, s.map_skeleton) for s in sources]
        weights = [source.weight for source in sources]
        return PoseStream(RowMixture(streams, weights, recipe.seed, recipe.train.shuffle_buffer, share), examples)
    parts = []
    for source in recipe.train.sources:
        rows = load_source(source)
        for _ in range(source.repeat):
            parts.append(PoseDataset(rows, skeleton, crop, recipe.augmentation, recipe.seed + len(parts)))
    return PoseMixture(parts)


def _require_one_way_of_mixing(recipe: Recipe) -> None:
    """Refuse keys of the sources that the chosen way of reading does not heed."""
    for number, source in enumerate(recipe.train.sources):
        if recipe.train.streaming and source.repeat != 1:
            raise ValueError(f"`train.sources[{number}].repeat` must be 1 with streaming: give a `weight` instead")
        if not recipe.train.streaming and (source.weight != 1.0 or source.map_skeleton):
            raise ValueError(f"`train.sources[{number}]` needs `train.streaming` for its `weight` or `map_skeleton`")
    if recipe.train.streaming and recipe.schedule.max_steps is None:
        raise ValueError("`schedule.max_steps` must say how long to train with streaming, as streams have no end")


def _evaluation_data(recipe: Recipe, skeleton: Skeleton, processor: JointDetrImageProcessorPil) -> PoseMixture | None:
    """All evaluation sources, plain."""
    crop = CropSettings.from_processor(processor)
    parts = [PoseDataset(load_source(source), skeleton, crop) for source in recipe.evaluation.sources]
    return PoseMixture(parts) if parts else None


def _compute_metrics(recipe: Recipe, evaluation: PoseMixture, model: PreTrainedModel) -> PoseMetrics:
    """Metrics with baselines fitted to the first training source that has the skeleton itself."""
    own = [source for source in recipe.train.sources if not source.map_skeleton] or recipe.evaluation.sources
    rows = load_source(own[0], recipe.train.streaming)
    baselines = fit_baselines(rows, evaluation.datasets[0].skeleton)
    return PoseMetrics(evaluation, recipe.evaluation.threshold, baselines, model.refiner)


def _training_arguments(recipe: Recipe) -> TrainingArguments:
    """Translate the recipe; schedule, evaluation and checkpoints are left to the callbacks."""
    use_cpu = recipe.device == "cpu" or not torch.accelerator.is_available()
    workers = recipe.train.workers
    return TrainingArguments(
        output_dir=recipe.output,
        seed=recipe.seed,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.evaluation.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        num_train_epochs=recipe.schedule.epochs,
        max_steps=-1 if recipe.schedule.max_steps is None else recipe.schedule.max_steps,
        learning_rate=recipe.optimizer.learning_rate,
        max_grad_norm=recipe.optimizer.clip_norm,
        bf16=recipe.precision == "bf16",
        use_cpu=use_cpu,
        torch_compile=recipe.compile,
        gradient_checkpointing=recipe.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=recipe.log_steps,
        eval_strategy="no",
        save_strategy="no",
        save_total_limit=2,
        dataloader_num_workers=workers,
        dataloader_prefetch_factor=4 if workers else None,
        dataloader_pin_memory=not use_cpu,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        eval_do_concat_batches=False,
        report_to=recipe.report_to,
        ignore_data_skip=recipe.train.streaming,  # a stream goes on from its own checkpoint
        disable_tqdm=True,
    )


def _last_checkpoint(output: Path) -> Path:
    """Find the checkpoint to resume from."""
    found = get_last_checkpoint(str(output)) if output.is_dir() else None
    if found is None:
        raise ValueError(f"there must be a checkpoint in {output} to resume from, got none")
    return Path(found)


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
