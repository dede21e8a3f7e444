"""Checkpoints that carry their code, for people who load them without installing the package."""

import os

from transformers.image_processing_utils import BaseImageProcessor

from ..modeling_jointdetr import JointDetrForPoseEstimation


def save_with_remote_code(
    model: JointDetrForPoseEstimation, processor: BaseImageProcessor, folder: str | os.PathLike
) -> None:
    """Save model and processor into one folder, which loads with `trust_remote_code=True` alone, as pipeline too.

    The model is left in eval mode, as the pipeline sets it.

    Args:
        model: The model, its refinement network included.
        processor: Its image processor.
        folder: Where to save; made if it does not exist.
    """
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
