"""Training of a pose model from a recipe, on `transformers.Trainer`.

`python -m jointdetr.training.train --config RECIPE.yaml [--resume] [section.key=value ...]`

The same works under `accelerate launch -m jointdetr.training.train ...` for several GPUs or machines. On a CPU, set
`OMP_NUM_THREADS` to the number of cores less one per data worker if those are busy; and
`MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296` in the environment keeps glibc from giving memory
back to the kernel at every step, which is sometimes faster.

The output folder gets `recipe.yaml`, `checkpoint-*` to resume from, `pictures` of a few people as training goes on,
`evaluation.json`, the whole log in `trainer_state.json`, and in `final` the model with its image processor, ready for
`from_pretrained`.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments, set_seed

from ..configuration_jointdetr import JointDetrConfig
from ..data.examples import PoseDataset, PoseExamples, PoseMixture, collate_poses
from ..evaluation.evaluate import PoseMetrics, fit_baselines
from ..formats.skeleton_files import read_skeleton, skeleton_from_dict
from ..image_processing_jointdetr import JointDetrImageProcessorPil
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..refinement_jointdetr import JointRefiner
from ..skeleton_jointdetr import SKELETONS, Skeleton
from .adaptation import adapt_to_skeleton
from .augmented_examples import AugmentedExamples
from .averaging import WeightAverage
from .checkpoints import last_whole_checkpoint, written_aside
from .recipe import Recipe, load_recipe, save_recipe
from .run_control import RunControl
from .stream import StreamCheckpoint
from .tracking import PROJECT, RUN_NAME_FILE, PoseWatch, available_tracker, name_run, what_to_watch
from .trainer import AugmentationEpoch, ConsoleLog, PoseTrainer
from .training_data import load_source, training_data


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
        resume: go on from the last whole checkpoint in `recipe.output`; see `checkpoints.py` for what is exact.
        model: to be trained instead of the one that the recipe describes; see `build_trainer`.

    Raises:
        ValueError: There is nothing to train on, the data do not fit the skeleton, there is no checkpoint, or the
            output folder holds another run.
    """
    if not recipe.train.sources and recipe.train.synthesis is None:
        raise ValueError("`train.sources` must name at least one dataset, or `train.synthesis` be given; got neither")
    output = Path(recipe.output)
    if not resume and (any(output.glob("checkpoint-*")) or (output / "final").exists()):
        raise ValueError(f"`output` must be a folder without a run, got {output}; --resume goes on with the run there")
    checkpoint = last_whole_checkpoint(output) if resume else None
    set_seed(recipe.seed)
    trainer = build_trainer(recipe, checkpoint, model)
    if trainer.is_world_process_zero():
        output.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, output / "recipe.yaml")
        (output / RUN_NAME_FILE).write_text(trainer.args.run_name + "\n")
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.average is not None:
        trainer.average.copy_to(trainer.model)
    metrics = trainer.evaluate() if recipe.evaluation.sources else {}
    with written_aside(output / "final") as folder:
        trainer.save_model(str(folder))
        if trainer.is_world_process_zero():
            (folder / "training_args.bin").unlink()  # a pickle, with paths of this machine
    if trainer.is_world_process_zero():
        trainer.save_state()
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
    order = StreamCheckpoint(checkpoint) if recipe.train.is_stream else AugmentationEpoch()
    callbacks = [order, control, ConsoleLog()] + ([average] if average else [])
    arguments = _training_arguments(recipe, resumed=checkpoint is not None)
    examples = AugmentedExamples(processor, skeleton, recipe.augmentation, recipe.train.dense_reduction)
    trainer = PoseTrainer(
        model=model,
        args=arguments,
        train_dataset=training_data(recipe, examples, arguments),
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
    if recipe.watch_steps != 0:
        plain = PoseExamples(processor, skeleton)
        trainer.add_callback(PoseWatch(trainer, what_to_watch(recipe, plain, evaluation), checkpoint))
    return trainer


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
    root = resolve_skeleton(recipe).root
    return JointDetrImageProcessorPil(size=size, box_padding=recipe.input.padding, root_joint=root)


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


def _evaluation_data(recipe: Recipe, skeleton: Skeleton, processor: JointDetrImageProcessorPil) -> PoseMixture | None:
    """All evaluation sources, plain."""
    examples = PoseExamples(processor, skeleton)
    parts = [PoseDataset(load_source(source), examples) for source in recipe.evaluation.sources]
    return PoseMixture(parts) if parts else None


def _compute_metrics(recipe: Recipe, evaluation: PoseMixture, model: PreTrainedModel) -> PoseMetrics:
    """Metrics with baselines fitted to the first training source that has the skeleton itself."""
    own = [source for source in recipe.train.sources if not source.map_skeleton] or recipe.evaluation.sources
    rows = load_source(own[0], recipe.train.is_stream)
    baselines = fit_baselines(rows, evaluation.datasets[0].skeleton)
    return PoseMetrics(evaluation, recipe.evaluation.threshold, baselines, model.refiner)


def _training_arguments(recipe: Recipe, resumed: bool) -> TrainingArguments:
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
        gradient_checkpointing=recipe.gradient_checkpointing or None,  # newer versions warn of its name if it is given
        logging_steps=recipe.log_steps,
        eval_strategy="no",
        save_strategy="no",
        logging_nan_inf_filter=False,  # `StepGuard` stops the run instead
        dataloader_num_workers=workers,
        dataloader_prefetch_factor=4 if workers else None,
        dataloader_pin_memory=not use_cpu,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        eval_do_concat_batches=False,
        report_to=available_tracker(recipe.report_to),
        project=PROJECT,
        run_name=name_run(recipe.output, resumed),
        ignore_data_skip=recipe.train.is_stream,  # a stream goes on from its own checkpoint
        disable_tqdm=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train a pose model from a recipe.")
    parser.add_argument("--config", required=True, help="YAML file, or the name of a recipe of the package")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args(arguments)
    result = train(load_recipe(options.config, options.overrides), options.resume)
    print(f"saved {result.folder}")


if __name__ == "__main__":
    main()
