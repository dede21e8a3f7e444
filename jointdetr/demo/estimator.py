"""The model behind the demo: looks at a picture once, and assembles people from what it saw as often as asked.

Shape vocabulary: people, joints.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import Pipeline, pipeline
from transformers.utils import ModelOutput, logging

from ..camera_jointdetr import Camera
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..people.boxes import Box
from ..people_jointdetr import load_detector
from ..pipeline_jointdetr import JointDetrPipeline
from ..skeleton_jointdetr import Skeleton
from .settings import DemoSettings

logger = logging.get_logger(__name__)

Person = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Sighting:
    """What the network saw in one picture.

    Args:
        boxes: The people's boxes; `None` if the whole picture was taken as one person.
        inputs: What the network was given: crops of upright people, see `JointDetrPipeline.look_again`.
        outputs: The network's output for each of them, on the CPU; `None` if there is nobody.
    """

    boxes: list[Box] | None
    inputs: dict[str, torch.Tensor]
    outputs: ModelOutput | None


class PoseEstimator:
    """A checkpoint, and a detector of people if the settings name one, loaded through the Auto classes."""

    def __init__(self, settings: DemoSettings):
        logging.disable_progress_bar()
        borrowed = bool(os.environ.get("SPACES_ZERO_GPU"))  # a GPU for single calls, see space/app.py
        device = "cuda" if torch.cuda.is_available() and not borrowed else "cpu"
        self.pipeline: JointDetrPipeline = pipeline(
            "pose-estimation-3d", model=settings.checkpoint, device=device, dtype=torch.float32
        )
        self.max_people = settings.max_people
        self.detector, self.detector_note = _load_if_there(settings.detector, device)

    def find_people(self, image: Image.Image) -> list[Box]:
        """Return the boxes of the largest people that the detector or the search finds, from left to right.

        Raises:
            ValueError: The detector knows no people.
        """
        boxes = self.pipeline.find_people(image, detector=self.detector)
        largest = sorted(boxes, key=lambda box: box[2] * box[3], reverse=True)[: self.max_people]
        return sorted(largest)

    def __call__(self, images: Sequence[Image.Image], **arguments: Any) -> list[list[dict[str, Any]]]:
        """Estimate the poses of people in given boxes of pictures, as films ask for them."""
        return self.pipeline(images, **arguments)

    @property
    def model(self) -> JointDetrForPoseEstimation:
        """The pose network."""
        return self.pipeline.model

    @property
    def skeleton(self) -> Skeleton:
        """The joints that the model finds."""
        return self.pipeline.model.config.skeleton

    @torch.inference_mode()
    def look(self, image: Image.Image, boxes: list[Box] | None) -> Sighting:
        """Run the network on every person of a picture."""
        model, processor = self.pipeline.model, self.pipeline.image_processor
        inputs = processor(image, boxes=None if boxes is None else [boxes], return_tensors="pt")
        outputs = self.pipeline.run_model(inputs["pixel_values"].to(model.device))
        if outputs is None:
            return Sighting(boxes, dict(inputs), None)
        inputs, outputs = self.pipeline.look_again([None if boxes is None else image], inputs, outputs)
        return Sighting(boxes, inputs, type(outputs)(**{name: value.cpu() for name, value in outputs.items()}))

    @torch.inference_mode()
    def assemble(self, sighting: Sighting, threshold: float, camera: Camera | None) -> list[Person]:
        """Return the people of a picture without running the network again.

        Args:
            sighting: What `look` returned for it.
            threshold: Joints less probable than this are missing.
            camera: What took the picture, `None` if unknown.

        Returns:
            What `post_process_pose_estimation` returns for the picture.

        Raises:
            ValueError: The threshold is outside [0, 1].
        """
        model, processor = self.pipeline.model, self.pipeline.image_processor
        inputs, outputs = sighting.inputs, sighting.outputs
        if outputs is not None:
            outputs = type(outputs)(**{name: value.to(model.device) for name, value in outputs.items()})
        return processor.post_process_pose_estimation(outputs, inputs, threshold, model.refiner, cameras=[camera])[0]

    def as_lists(self, people: list[Person]) -> list[dict[str, Any]]:
        """Return people as the pipeline does: plain lists of numbers, `None` for what is missing."""
        return self.pipeline.postprocess({"people": people})


def _load_if_there(name: str, device: str) -> tuple[Pipeline | None, str]:
    """Return a detector, or none and a word why: where the Hub cannot be reached, the search finds people as well."""
    if not name:
        return None, ""
    try:
        return load_detector(name, device=device), ""
    except OSError as error:
        logger.warning("the detector %s could not be loaded, people are searched for: %s", name, error)
        return None, f"The detector {name} could not be loaded; the pose model looks for people itself."
