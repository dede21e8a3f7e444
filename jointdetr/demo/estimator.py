"""The model behind the demo: looks at a picture once, and assembles people from what it saw as often as asked."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import pipeline
from transformers.utils import ModelOutput, logging

from ..camera_jointdetr import Camera
from ..people_jointdetr import Box, load_detector
from ..pipeline_jointdetr import JointDetrPipeline
from . import DemoSettings

logger = logging.get_logger(__name__)

Person = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Sighting:
    """What the network saw in one picture."""

    boxes: list[Box] | None  # of the people; None if the whole picture was taken as one person
    inputs: dict[str, torch.Tensor]  # crops of upright people, see `JointDetrPipeline.look_again`
    outputs: ModelOutput | None  # of the network for each of them; None if there is nobody


class PoseEstimator:
    """A checkpoint, and a detector of people if the settings name one, loaded through the Auto classes."""

    def __init__(self, settings: DemoSettings):
        logging.disable_progress_bar()
        self.settings = settings
        borrowed = bool(os.environ.get("SPACES_ZERO_GPU"))  # a GPU for single calls, see space/app.py
        device = "cuda" if torch.cuda.is_available() and not borrowed else "cpu"
        self.pipeline: JointDetrPipeline = pipeline(
            "pose-estimation-3d", model=settings.checkpoint, device=device, dtype=torch.float32
        )
        self.model = self.pipeline.model
        self.skeleton = self.model.config.skeleton
        self.detector, self.detector_note = None, ""
        if name := settings.detector:
            try:
                self.detector = load_detector(name, device=device)
            except OSError as error:  # where the Hub cannot be reached, the search finds people as well
                told = f"The detector {name} could not be loaded; the pose model looks for people itself."
                logger.warning("%s %s", told, error)
                self.detector_note = told

    def find_people(self, image: Image.Image) -> list[Box]:
        """Return the boxes of the largest people that the detector or the search finds, from left to right."""
        boxes = self.pipeline.find_people(image, detector=self.detector)
        largest = sorted(boxes, key=lambda box: box[2] * box[3], reverse=True)[: self.settings.max_people]
        return sorted(largest)

    def __call__(self, images: Sequence[Image.Image], **arguments: Any) -> list[list[dict[str, Any]]]:
        """Estimate the poses of people in given boxes of pictures, as films ask for them."""
        return self.pipeline(images, **arguments)

    @torch.inference_mode()
    def look(self, image: Image.Image, boxes: list[Box] | None) -> Sighting:
        """Run the network on every person of a picture."""
        inputs = self.pipeline.image_processor(image, boxes=None if boxes is None else [boxes], return_tensors="pt")
        outputs = self.pipeline.run_model(inputs["pixel_values"].to(self.model.device))
        if outputs is not None:
            inputs, outputs = self.pipeline.look_again([None if boxes is None else image], inputs, outputs)
        return Sighting(boxes, dict(inputs), outputs)

    @torch.inference_mode()
    def assemble(self, sighting: Sighting, threshold: float, camera: Camera | None) -> list[Person]:
        """Return the people of a picture, as `post_process_pose_estimation` does, without running the network again.

        Joints with a score below the threshold are guesses; the camera is `None` if unknown.
        """
        return self.pipeline.image_processor.post_process_pose_estimation(
            sighting.outputs, sighting.inputs, threshold, self.model.refiner, cameras=[camera]
        )[0]
