"""Checkpoints that carry their code, for people who load them without installing the package."""

import os

from transformers.image_processing_utils import BaseImageProcessor

from .modeling_jointdetr import JointDetrForPoseEstimation, JointDetrModel
from .pipeline_jointdetr import JointDetrPipeline


def save_with_remote_code(
    model: JointDetrForPoseEstimation, processor: BaseImageProcessor, folder: str | os.PathLike
) -> None:
    """Save model, processor and pipeline so that all of them load with `trust_remote_code=True` alone.

    `save_pretrained` carries the code of what it saves, but knows neither of the pipeline nor that the same weights
    also load as the base model by `AutoModel`. The model is left in eval mode, as the pipeline sets it.

    Args:
        model: The model, its refinement network included.
        processor: Its image processor.
        folder: Where to save; made if it does not exist.
    """
    base_model = f"{JointDetrModel.__module__.split('.')[-1]}.{JointDetrModel.__name__}"
    known = vars(model.config).get("auto_map") or {}  # not there on a config that was never saved with its code
    model.config.auto_map = known | {"AutoModel": base_model}
    pipeline = JointDetrPipeline(model=model, image_processor=processor, device=model.device)
    pipeline.save_pretrained(folder)
