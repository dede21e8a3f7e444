"""Fine-tune on joints of your own with transformers' `Trainer`.

    python examples/fine_tune_trainer.py data/joints23 runs/joints23 --epochs 20

`data/joints23` is a dataset with the columns of `jointdetr.data.schema.pose_features` and the file `skeleton.json`
beside them; docs/custom-skeleton.md makes one. The model in `runs/joints23` is what `from_pretrained` expects.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModelForPoseEstimation, Trainer, TrainingArguments

import jointdetr  # noqa: F401  makes the model known to transformers
from jointdetr.data.examples import PoseDataset, PoseExamples, collate_poses
from jointdetr.data.loading import load_pose_dataset
from jointdetr.evaluation.evaluate import PoseMetrics
from jointdetr.formats.skeletons import read_skeleton
from jointdetr.training.adaptation import adapt_to_skeleton
from jointdetr.training.augmentation import Augmentation, AugmentationEpoch, AugmentedExamples


def main() -> None:
    """Read the options, train, evaluate, save."""
    parser = argparse.ArgumentParser(description="Fine-tune a pose model on joints of your own.")
    parser.add_argument("data", type=Path, help="dataset with skeleton.json beside it")
    parser.add_argument("output", help="folder for the model")
    parser.add_argument("--model", default=str(files("jointdetr") / "pretrained"), help="what to start from")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    options = parser.parse_args()

    # the model: joints that it knows by name keep their weights, the others start anew
    skeleton = read_skeleton(options.data / "skeleton.json")
    model = AutoModelForPoseEstimation.from_pretrained(options.model, dtype=torch.float32)
    model = adapt_to_skeleton(model, skeleton)
    processor = AutoImageProcessor.from_pretrained(options.model, root_joint=skeleton.root)

    # the data: crops of people with their joints, augmented in training; a tenth is held out
    rows = load_pose_dataset(options.data).train_test_split(test_size=0.1, seed=0)
    training = PoseDataset(rows["train"], AugmentedExamples(processor, skeleton, Augmentation()))
    evaluation = PoseDataset(rows["test"], PoseExamples(processor, skeleton))

    arguments = TrainingArguments(
        output_dir=options.output,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        save_strategy="no",
        remove_unused_columns=False,  # the dataset makes its columns itself
        eval_do_concat_batches=False,  # labels are lists
        report_to="none",
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=collate_poses,
        train_dataset=training,
        eval_dataset=evaluation,
        processing_class=processor,
        compute_metrics=PoseMetrics(evaluation, refiner=model.refiner),
        callbacks=[AugmentationEpoch()],  # other views in every epoch
    )
    trainer.train()
    metrics = trainer.evaluate()
    print(f"held out: MPJPE {metrics['eval_mpjpe']:.0f} mm, PA-MPJPE {metrics['eval_pa_mpjpe']:.0f} mm")
    trainer.save_model()


if __name__ == "__main__":
    main()
