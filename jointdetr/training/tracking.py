"""What a run tells: means over its batches, pictures of a few people, and the tracker that `report_to` names.

Shape vocabulary: layers (decoder), batch, queries, joints. Positions are root-relative millimetres in camera axes.
"""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import reduce
from PIL import Image
from transformers import PreTrainedModel

from ..data.examples import PoseMixture, collate_poses
from ..evaluation.metrics import joint_errors
from ..modeling_jointdetr import JointDetrPoseEstimationOutput
from ..picture_jointdetr import Cropper
from ..postprocessing_jointdetr import assemble_poses
from ..visualization.figures import as_picture, pose_sheet

PROJECT = "jointdetr"
DRAWN_PEOPLE = 4
RUN_NAME_FILE = "run_name.txt"


def start_tracker(accelerator: Accelerator, report_to: str, output: Path) -> None:
    """Begin the run at its tracker, by the name of its folder and the time, or go on with the name kept in there."""
    if report_to != "none" and not accelerator.log_with:
        accelerator.print(f"{report_to} is not installed, so this log is all there is: pip install {report_to}")
    kept = output / RUN_NAME_FILE
    if accelerator.is_main_process and not kept.is_file():
        folder = "-".join(part.strip("/\\:") for part in output.parts[-2:])
        kept.write_text(f"{folder}-{datetime.now():%Y%m%d-%H%M%S}\n")
    accelerator.wait_for_everyone()
    named = {"name": kept.read_text().strip(), "resume": "allow"}
    accelerator.init_trackers(PROJECT, init_kwargs={"trackio": named, "wandb": named})


class TrainingMeter:
    """Means over the batches since the last entry of the log, those of all processes.

    Sums stay on the device until they are read, in one transfer, so that no step waits for them.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._sums: dict[str, torch.Tensor] = {}
        self._started = time.monotonic()

    @torch.no_grad()
    def add(self, outputs: JointDetrPoseEstimationOutput, labels: Sequence[dict[str, torch.Tensor]]) -> None:
        """Count a batch: its loss terms, and the errors of its matched joints."""
        valid = torch.stack([label["joints_3d_valid"] for label in labels])  # (batch, joints)
        targets = torch.stack([label["joints_3d"] for label in labels])  # (batch, joints, 3)
        errors = joint_errors(matched_joints(outputs), targets)  # (layers, batch, joints)
        *earlier, last = torch.where(valid, errors, 0.0).sum((1, 2)).unbind()
        values = {"loss": outputs.loss}
        # terms of earlier layers have a slash, which keeps them out of the console
        values |= {f"term{'/' if name[-1].isdigit() else ' '}{name}": term for name, term in outputs.loss_dict.items()}
        values |= {"mpjpe": last} | {f"mpjpe/{layer}": errors for layer, errors in enumerate(earlier)}
        one = torch.ones_like(last)
        values |= {"joints": valid.sum(), "batches": one, "images": len(labels) * one}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach().float()

    def read(self) -> dict[str, float]:
        """Return the means and images a second, and begin anew; all processes have to take part.

        `term ...` and `mpjpe` (mm) are of the last decoder layer; the earlier ones have a slash and their number.
        """
        seconds = max(time.monotonic() - self._started, 1e-6)
        sums = dict(zip(self._sums, reduce(torch.stack(list(self._sums.values())), "sum").tolist(), strict=True))
        joints, batches, images = (sums.pop(name) for name in ("joints", "batches", "images"))
        counts = {name: joints if name.startswith("mpjpe") else batches for name in sums}
        self.clear()
        means = {name: total / counts[name] for name, total in sums.items() if counts[name]}
        return {"images_per_second": images / seconds, **means}


def matched_joints(outputs: JointDetrPoseEstimationOutput) -> torch.Tensor:
    """Return what every decoder layer predicts for the joints: (layers, batch, joints, 3) mm.

    With set alignment they are the matched queries' predictions, so that no mistake in the class counts.
    """
    earlier = [layer["pred_joints"] for layer in outputs.auxiliary_outputs or ()]
    joints = torch.stack([*earlier, outputs.pred_joints]).float()  # (layers, batch, queries, 3)
    if outputs.matched_queries is None:
        return joints
    return joints.gather(2, outputs.matched_queries[..., None].expand(*outputs.matched_queries.shape, 3))


def send_picture(tracker: GeneralTracker, picture: Image.Image, step: int) -> None:
    """Show a picture in a tracker: trackio, TensorBoard or wandb; any other has the numbers alone."""
    if tracker.name == "trackio":
        import trackio

        tracker.log({"people": trackio.Image(picture)}, step=step)
    elif tracker.name == "tensorboard":
        tracker.log_images({"people": np.asarray(picture)[None]}, step=step, dataformats="NHWC")
    elif tracker.name == "wandb":
        tracker.log_images({"people": [picture]}, step=step)


def people_to_draw(data: PoseMixture) -> dict[str, Any]:
    """A batch of a few people, evenly spaced over the data, as neighbours tend to be alike."""
    count = min(DRAWN_PEOPLE, len(data))
    return collate_poses([data[index * len(data) // count] for index in range(count)])


@torch.no_grad()
def draw_people(model: PreTrainedModel, batch: dict[str, Any], cropper: Cropper, threshold: float) -> Image.Image:
    """Draw the first people of a batch with what a model in evaluation mode predicts for them.

    Joints with a score below the threshold are drawn as guesses; titles give the mean error of the labelled ones.
    """
    pixels, labels = batch["pixel_values"][:DRAWN_PEOPLE].to(model.device), batch["labels"][:DRAWN_PEOPLE]
    poses = assemble_poses(model(pixel_values=pixels), threshold=0.0)
    joints, found = poses.joints.cpu(), (poses.scores >= threshold).cpu()
    points = poses.points.cpu() * torch.tensor(cropper.size[::-1])  # px
    people, titles = [], []
    for index, label in enumerate(labels):
        people.append({"joints": joints[index], "joints_2d": points[index], "detected": found[index]})
        errors = joint_errors(joints[index], label["joints_3d"].cpu())[label["joints_3d_valid"].cpu()]
        titles.append(f"{errors.mean():.0f} mm off" if len(errors) else "no label in 3D")
    pictures = [cropper.picture(crop) for crop in pixels.cpu()]
    return as_picture(pose_sheet(pictures, people, model.config.skeleton, titles))
