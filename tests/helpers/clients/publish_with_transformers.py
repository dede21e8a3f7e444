"""Publish by the methods of transformers: the model's, the processor's, and `Trainer`'s after a step of training."""

import json
import sys

import torch
from transformers import Trainer, TrainingArguments

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.data.examples import collate_poses
from jointdetr.hub import ModelCardDetails, PushSettings, push_to_hub

folder, output = sys.argv[1:]
model = JointDetrForPoseEstimation.from_pretrained(folder)
processor = JointDetrImageProcessor.from_pretrained(folder)
model.push_to_hub("tester/by-hand", tags=["pose"])
processor.push_to_hub("tester/by-hand")

labels = {"joints_3d": torch.randn(17, 3) * 300, "joints_3d_valid": torch.ones(17, dtype=torch.bool)}
example = {"pixel_values": torch.randn(3, 64, 64), "labels": labels}
arguments = TrainingArguments(
    output,
    max_steps=1,
    per_device_train_batch_size=2,
    push_to_hub=True,
    hub_model_id="tester/trained",
    remove_unused_columns=False,
    use_cpu=True,
    report_to=[],
)
trainer = Trainer(model, arguments, collate_poses, [example] * 2, processing_class=processor)
trainer.train()
trainer.push_to_hub()
card = ModelCardDetails(license="mit", training_data="Two pictures of noise.")
push_to_hub(trainer.model, processor, "tester/trained", card, PushSettings(update=True))
trainer.model.save_pretrained(output + "/final")
processor.save_pretrained(output + "/final")
print(json.dumps("done"))
