"""Pictures of what a model in training predicts for a few people."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel

from ..data.examples import PoseMixture, collate_poses
from ..evaluation.metrics import joint_errors
from ..picture_jointdetr import Cropper
from ..postprocessing_jointdetr import assemble_poses
from ..visualization.figures import as_picture, pose_sheet

DRAWN_PEOPLE = 4


def people_to_draw(data: PoseMixture) -> dict[str, Any]:
    """A batch of a few people, evenly spaced over the data, as neighbours tend to be alike."""
    count = min(DRAWN_PEOPLE, len(data))
    return collate_poses([data[index * len(data) // count] for index in range(count)])


@torch.no_grad()
def draw_people(model: PreTrainedModel, batch: dict[str, Any], cropper: Cropper, threshold: float) -> Image.Image:
    """Draw the first people of a batch with what a model in evaluation mode predicts for them.

    Joints less probable than the threshold are drawn as guesses; titles give the mean error of the labelled ones.
    """
    pixels, labels = batch["pixel_values"][:DRAWN_PEOPLE].to(model.device), batch["labels"][:DRAWN_PEOPLE]
    poses = assemble_poses(model(pixel_values=pixels), threshold=0.0)
    joints, found = poses.joints.cpu(), (poses.scores >= threshold).cpu()
    points = poses.points.cpu() * torch.tensor(cropper.size[::-1])  # px
    people = [
        {"joints": joints[index], "joints_2d": points[index], "detected": found[index]} for index in range(len(joints))
    ]
    pictures = [cropper.picture(crop) for crop in pixels.cpu()]
    return as_picture(pose_sheet(pictures, people, model.config.skeleton, _describe_errors(joints, labels)))


def _describe_errors(joints: torch.Tensor, labels: Sequence[dict[str, torch.Tensor]]) -> list[str]:
    """Mean errors of people's joints `(people, joints, 3)` in words."""
    errors = [
        joint_errors(pose, label["joints_3d"].cpu())[label["joints_3d_valid"].cpu()]
        for pose, label in zip(joints, labels, strict=True)
    ]
    return [f"{error.mean():.0f} mm off" if len(error) else "no label in 3D" for error in errors]
