"""What training says of a model is what `jointdetr evaluate` says of it."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from jointdetr import (
    JointDetrConfig,
    JointDetrForPoseEstimation,
    JointDetrImageProcessorPil,
    JointRefiner,
    JointRefinerConfig,
)
from jointdetr.data.examples import PoseDataset, PoseExamples, collate_poses
from jointdetr.evaluation.evaluate import PoseMetrics, evaluate_model
from jointdetr.skeleton_jointdetr import HUMAN36M


@pytest.mark.parametrize("alignment", ["set", "fixed"])
def test_a_refiner_that_wants_expected_errors_gets_them_in_training_too(
    alignment, tiny_model_folder, pose_rows, tmp_path
):
    fields = JointDetrConfig.from_pretrained(tiny_model_folder).to_dict()
    fields |= {"predict_confidence": True, "query_alignment": alignment, "num_queries": None, "refiner_config": None}
    model = JointDetrForPoseEstimation(JointDetrConfig.from_dict(fields))
    model.set_refiner(JointRefiner(JointRefinerConfig(hidden_size=16, use_sigmas=True)))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    evaluation = PoseDataset(pose_rows, PoseExamples(processor, HUMAN36M))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path),
            per_device_eval_batch_size=3,
            remove_unused_columns=False,
            eval_do_concat_batches=False,
            use_cpu=True,
            report_to="none",
        ),
        eval_dataset=evaluation,
        data_collator=collate_poses,
        compute_metrics=PoseMetrics(evaluation, refiner=model.refiner),
    )
    found = trainer.evaluate()
    expected = evaluate_model(model, processor, pose_rows)
    assert found["eval_mpjpe"] == pytest.approx(expected.metrics["mpjpe"], rel=1e-5)
    pose, nothing = torch.zeros(1, 17, 3), torch.zeros(1, 17, dtype=torch.bool)
    blind, told = (model.refiner(pose, missing=nothing, sigmas=sigmas) for sigmas in (None, torch.full((1, 17), 5.0)))
    assert not torch.equal(blind.joints, told.joints)
