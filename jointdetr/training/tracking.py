"""What a run tells: means over its batches, lines on the console, and the tracker that `report_to` names.

Shape vocabulary: layers (decoder), batch, queries, joints. Positions are root-relative millimetres in camera axes.
"""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import GeneralTracker, get_available_trackers
from accelerate.utils import is_trackio_available, reduce
from PIL import Image

from ..evaluation.metrics import joint_errors
from ..modeling_jointdetr import JointDetrPoseEstimationOutput

PROJECT = "jointdetr"
RUN_NAME_FILE = "run_name.txt"
_TRACKIO_ADVICE = 'trackio is not installed, so this log is all there is; pip install "jointdetr[train]" gives curves'


def available_tracker(name: str) -> str | None:
    """Return the tracker to report to: the default, trackio, gives way to the console where it is not installed.

    Raises:
        ValueError: There is no such tracker, or it is not installed.
    """
    if name == "trackio" and not is_trackio_available():
        if PartialState().is_main_process:
            print(_TRACKIO_ADVICE, flush=True)
        return None
    installed = [str(tracker) for tracker in get_available_trackers()]
    if name not in ("none", *installed):
        raise ValueError(f"`report_to` must be none or a tracker that is installed, {installed}, got {name!r}")
    return None if name == "none" else name


def start_trackers(accelerator: Accelerator, run_name: str) -> None:
    """Begin the run at its tracker, or go on with the one of that name."""
    named = {"name": run_name, "resume": "allow"}
    accelerator.init_trackers(PROJECT, init_kwargs={"trackio": named, "wandb": named})


def name_run(output: str | Path, resumed: bool) -> str:
    """Name a run at its trackers: its folder and the time of its start, or what a resumed one is called already."""
    kept = Path(output) / RUN_NAME_FILE
    if resumed and kept.is_file():
        return kept.read_text().strip()
    folder = "-".join(part.strip("/\\:") for part in Path(output).parts[-2:])
    return f"{folder}-{datetime.now():%Y%m%d-%H%M%S}"


class TrainingMeter:
    """Means over the batches since the last entry of the log, those of all processes.

    Sums stay on the device until they are read, in one transfer, so that no step waits for them.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.batches = self.images = 0
        self._by_batch: dict[str, torch.Tensor] = {}
        self._errors: dict[str, torch.Tensor] = {}
        self._joints: torch.Tensor | None = None
        self._started = time.monotonic()

    @torch.no_grad()
    def add(self, outputs: JointDetrPoseEstimationOutput, labels: Sequence[dict[str, torch.Tensor]]) -> None:
        """Count a batch: its loss terms, what its matching costs, and the errors of its matched joints."""
        terms = {"loss": outputs.loss.detach()}
        terms |= {_term(name): value.detach() for name, value in outputs.loss_dict.items()}
        if outputs.matching_cost is not None:
            terms |= {f"matching_cost/{layer}": cost for layer, cost in enumerate(outputs.matching_cost.unbind())}
        valid = torch.stack([label["joints_3d_valid"] for label in labels])  # (batch, joints)
        targets = torch.stack([label["joints_3d"] for label in labels])  # (batch, joints, 3)
        errors = joint_errors(matched_joints(outputs), targets)  # (layers, batch, joints)
        errors = torch.where(valid, errors, 0.0).sum((1, 2)).unbind()
        _accumulate(self._by_batch, terms)
        _accumulate(self._errors, by_layer("mpjpe", errors))
        self._joints = valid.sum() if self._joints is None else self._joints + valid.sum()
        self.batches += 1
        self.images += len(labels)

    def read(self) -> dict[str, float]:
        """Return the means and images a second, and begin anew; all processes have to take part.

        `term ...` and `mpjpe` (mm) are of the last decoder layer; the earlier ones have a slash and their number.
        """
        seconds = max(time.monotonic() - self._started, 1e-6)
        counts = torch.tensor([self.batches, self.images], dtype=torch.float32, device=self._joints.device)
        sums = [*self._by_batch.values(), *self._errors.values(), self._joints, *counts.unbind()]
        *totals, joints, batches, images = reduce(torch.stack([value.float() for value in sums]), "sum").tolist()
        means = dict(zip(self._by_batch, (total / batches for total in totals), strict=False))
        if joints:
            errors = totals[len(self._by_batch) :]
            means |= dict(zip(self._errors, (error / joints for error in errors), strict=True))
        self.clear()
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


def tracked_name(name: str) -> str:
    """Name of an entry at trackers, which show training and evaluation apart."""
    return f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}"


def print_entry(step: int, entries: dict[str, float]) -> None:
    """Print an entry of the log on one line; what has a slash in its name is for trackers alone."""
    text = "  ".join(f"{name} {value:.4g}" for name, value in entries.items() if "/" not in name)
    print(f"step {step}  {text}", flush=True)


def send_picture(tracker: GeneralTracker, picture: Image.Image, step: int) -> None:
    """Show a picture in a tracker: trackio, TensorBoard or wandb; any other has the numbers alone."""
    if tracker.name == "trackio":
        import trackio

        tracker.log({"people": trackio.Image(picture)}, step=step)
    elif tracker.name == "tensorboard":
        tracker.log_images({"people": np.asarray(picture)[None]}, step=step, dataformats="NHWC")
    elif tracker.name == "wandb":
        tracker.log_images({"people": [picture]}, step=step)


def _term(name: str) -> str:
    """Key of a loss term; those of earlier layers have a slash, which keeps them out of the console."""
    return f"term/{name}" if name[-1].isdigit() else f"term {name}"


def by_layer(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Name values of the decoder layers: the last one by the bare name, the earlier ones with their number."""
    *earlier, last = values
    return {name: last} | {f"{name}/{layer}": value for layer, value in enumerate(earlier)}


def _accumulate(sums: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> None:
    for name, value in values.items():
        sums[name] = sums[name] + value if name in sums else value
