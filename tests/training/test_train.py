"""Whole training runs, of a model of a few thousand weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessorPil
from jointdetr.data.examples import PoseDataset, PoseExamples, collate_poses
from jointdetr.evaluation.evaluate import PoseMetrics, evaluate_model
from jointdetr.skeleton_jointdetr import HUMAN36M, MPI_INF_3DHP
from jointdetr.training.augmentation import Augmentation, AugmentationEpoch, AugmentedExamples
from jointdetr.training.model import build_model, resolve_skeleton
from jointdetr.training.optimization import BudgetedSchedule
from jointdetr.training.recipe import Recipe, build, load_recipe
from jointdetr.training.train import TrainingRun, main, train


def test_a_run_that_is_resumed_ends_the_same_and_keeps_its_best_model(recipe_values, pose_rows, tmp_path, capsys):
    recipe = build(Recipe, {**recipe_values, "checkpoint_minutes": 0.0})
    result = train(recipe)
    uninterrupted = load_file(result.folder / "model.safetensors")
    assert result.metrics["eval_mpjpe"] > 0 and result.metrics["eval_mean_pose/mpjpe"] > 0
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["eval_mpjpe"] == result.metrics["eval_mpjpe"]
    output = capsys.readouterr().out
    for text in ("images_per_second", "term loss_class", "mean_pose_turned", "PA-MPJPE"):
        assert text in output
    history = json.loads((tmp_path / "run" / "log.json").read_text())
    errors = [entry["eval_mpjpe"] for entry in history if "eval_mpjpe" in entry]
    best = JointDetrForPoseEstimation.from_pretrained(tmp_path / "run" / "best")
    processor = JointDetrImageProcessorPil.from_pretrained(tmp_path / "run" / "best")
    assert len(errors) == 2  # after the first of one and a half epochs, and at the end
    assert evaluate_model(best, processor, pose_rows.select(range(5))).metrics["mpjpe"] == pytest.approx(min(errors))

    shutil.rmtree(result.folder)
    shutil.rmtree(tmp_path / "run" / "checkpoint-6")
    resumed = load_file(train(recipe, resume=True).folder / "model.safetensors")
    assert set(resumed) == set(uninterrupted)
    for name, tensor in uninterrupted.items():
        assert torch.equal(tensor, resumed[name]), name


def test_training_lowers_the_loss_and_the_result_loads(recipe_values, pose_rows):
    values = {**recipe_values, "batch_size": 8, "evaluation": {}, "average_decay": 0.0, "channels_last": True}
    values |= {"schedule": {"max_steps": 25, "warmup_steps": 1}, "log_steps": 10}
    values |= {"optimizer": {"learning_rate": 5e-3, "backbone_multiplier": 1.0, "clip_norm": 10.0}}
    values |= {"augmentation": {"flip": 0, "rotation": 0, "scale": 1, "shift": 0, "colour": 0, "cutout": 0}}
    recipe = build(Recipe, values)
    before = build_model(recipe, resolve_skeleton(recipe))
    result = train(recipe)
    assert result.metrics == {}
    model = JointDetrForPoseEstimation.from_pretrained(result.folder)
    processor = JointDetrImageProcessorPil.from_pretrained(result.folder)
    assert processor.size["height"] == 64
    dataset = PoseDataset(pose_rows, PoseExamples(processor, HUMAN36M))
    batch = collate_poses([dataset[index] for index in range(8)])
    with torch.no_grad():
        losses = [network.train()(**batch).loss.item() for network in (before, model)]
    assert losses[1] < 0.9 * losses[0]


def test_a_run_with_bf16_ends_by_the_clock(recipe_values, capsys, monkeypatch):
    values = {**recipe_values, "precision": "bf16", "evaluation": {}}
    values |= {"schedule": {"epochs": 10000, "max_minutes": 1.0, "warmup_steps": 1}, "log_steps": 1}
    monkeypatch.setattr(BudgetedSchedule, "elapsed_seconds", property(lambda schedule: 20.0 * schedule.last_epoch))
    train(build(Recipe, values))
    lines = [line for line in capsys.readouterr().out.splitlines() if "learning_rate" in line]
    rates = [float(line.split("learning_rate ")[1].split()[0]) for line in lines]
    assert rates == pytest.approx([1e-3, 7.525e-4, 2.575e-4], rel=1e-3)  # used at 0, 1/3 and 2/3 of the time


def test_refuses_what_cannot_be_trained(recipe_values, pose_folder):
    with pytest.raises(ValueError, match="`train.sources` must name at least one dataset"):
        train(Recipe())
    with pytest.raises(ValueError, match="there must be a checkpoint in .*run"):
        train(build(Recipe, recipe_values), resume=True)
    with pytest.raises(ValueError, match="`model.deformable_detr_from` must stand without"):
        build_model(build(Recipe, {"model": {"init_from": "a", "deformable_detr_from": "b"}}), HUMAN36M)


def test_a_model_of_another_skeleton_is_adapted_and_keeps_the_joints_it_knows(tiny_model_folder):
    start = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    recipe = build(Recipe, {"skeleton": "mpi_inf_3dhp", "model": {"init_from": str(tiny_model_folder)}})
    model = build_model(recipe, MPI_INF_3DHP)
    assert model.config.skeleton == MPI_INF_3DHP
    head, old_head = (one.model.decoder.heads[0].class_head.weight for one in (model, start))
    assert torch.equal(head[MPI_INF_3DHP.joints.index("pelvis")], old_head[HUMAN36M.joints.index("pelvis")])
    assert not any(parameter.requires_grad for parameter in model.refiner.parameters())


def test_the_command_line_takes_overrides_anywhere(recipe_values, tmp_path, capsys):
    import yaml

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_values))
    main(["schedule.max_steps=1", "--config", str(path), f"output={tmp_path / 'other'}", "evaluation.sources=[]"])
    assert (tmp_path / "other" / "final" / "config.json").is_file()
    assert f"saved {tmp_path / 'other' / 'final'}" in capsys.readouterr().out


def test_the_queries_of_a_new_model_start_at_the_mean_pose_of_what_it_is_trained_on(recipe_values, pose_rows):
    recipe = build(Recipe, recipe_values)
    run = TrainingRun(recipe)
    start, rows = run.model.model.query_start, run.data
    labels = [rows.pose_labels(index) for index in range(len(rows))]
    joints = torch.stack([label["joints_3d"] for label in labels]).nanmean(0) / 1000.0
    torch.testing.assert_close(start.joints[3].detach(), joints[3])
    assert 0.0 < start.points.min() < 0.5 < start.points.max() < 1.0


def test_a_run_goes_on_from_a_model_and_a_backbone(recipe_values, tiny_model_folder, tmp_path):
    start = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    recipe = build(Recipe, {"model": {"init_from": str(tiny_model_folder), "config": {"class_weight": 2.0}}})
    model = build_model(recipe, HUMAN36M)
    assert model.config.class_weight == 2.0
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), start.state_dict().values(), strict=True)
    )

    backbone = start.model.backbone
    backbone.save_pretrained(tmp_path / "backbone")
    config = {"backbone_config": backbone.config.to_dict(), "d_model": 16}
    recipe = build(Recipe, {"model": {"backbone_from": str(tmp_path / "backbone"), "config": config}})
    fresh = build_model(recipe, HUMAN36M).model.backbone.state_dict()
    assert all(torch.equal(fresh[name], value) for name, value in backbone.state_dict().items())
    recipe = build(
        Recipe, {**recipe_values, "model": {**recipe_values["model"], "backbone_from": str(tmp_path / "backbone")}}
    )
    with pytest.raises(ValueError, match="`model.backbone_from` must be a ResNetBackbone of the recipe's size"):
        build_model(recipe, HUMAN36M)


def test_fine_tuning_with_plain_trainer(tiny_model_folder, pose_rows, tmp_path):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    plain = PoseExamples(processor, HUMAN36M)
    evaluation = PoseDataset(pose_rows, plain)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=4,
            per_device_eval_batch_size=3,
            remove_unused_columns=False,
            eval_do_concat_batches=False,
            use_cpu=True,
            report_to="none",
        ),
        train_dataset=PoseDataset(pose_rows, AugmentedExamples(processor, HUMAN36M, Augmentation())),
        eval_dataset=evaluation,
        data_collator=collate_poses,
        compute_metrics=PoseMetrics(evaluation, refiner=model.refiner),
        callbacks=[AugmentationEpoch()],
    )
    trainer.train()
    metrics = trainer.evaluate()
    expected = evaluate_model(model, processor, pose_rows).metrics
    for name in ("mpjpe", "pa_mpjpe", "point_error", "mpjpe_visible"):
        assert metrics[f"eval_{name}"] == pytest.approx(expected[name], rel=1e-5)
    assert metrics["eval_loss"] > 0
    trainer.args.eval_do_concat_batches = True
    assert trainer.evaluate()["eval_mpjpe"] == metrics["eval_mpjpe"]
    with pytest.raises(ValueError, match="is for 8 poses, got 3 predictions"):
        trainer.evaluate(PoseDataset(pose_rows.select(range(3)), plain))


def test_a_run_is_never_written_over(tmp_path):
    (tmp_path / "final").mkdir()
    recipe = load_recipe("synthetic-tiny", [f"output={tmp_path}", "train.sources=[{path: nowhere}]"])
    with pytest.raises(ValueError, match=r"`output` must be a folder without a run, got .*; --resume goes on"):
        train(recipe)


def one_step(recipe_values, folder, **changes):
    """The model after a step without dropout and averages, and the norm of the step's gradient."""
    config = {**recipe_values["model"]["config"], "dropout": 0.0, "freeze_batch_norm": True}
    values = {**recipe_values, "model": {"config": config}, "evaluation": {}, "output": str(folder)}
    values |= {"schedule": {"max_steps": 1, "warmup_steps": 0}, "average_decay": 0.0, "log_steps": 1}
    model = train(build(Recipe, values | changes)).model
    history = json.loads((folder / "log.json").read_text())
    return model, history[0]["grad_norm"]


def test_activations_that_are_computed_again_give_the_same_step(recipe_values, tmp_path):
    kept, norm = one_step(recipe_values, tmp_path / "kept")
    again, same_norm = one_step(recipe_values, tmp_path / "again", gradient_checkpointing=True)
    assert again.is_gradient_checkpointing and not kept.is_gradient_checkpointing
    assert same_norm == pytest.approx(norm, rel=1e-5)
    for name, tensor in kept.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, msg=name)


def test_two_batches_make_the_step_of_one_of_twice_the_size(recipe_values, tmp_path):
    _, whole = one_step(recipe_values, tmp_path / "whole", batch_size=4)
    _, accumulated = one_step(recipe_values, tmp_path / "accumulated", batch_size=2, accumulation=2)
    _, half = one_step(recipe_values, tmp_path / "half", batch_size=2)
    assert accumulated == pytest.approx(whole, rel=1e-4) and half != pytest.approx(whole, rel=1e-2)
