"""The card of a published model: metadata that the Hub reads, and a page for people."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers.image_processing_utils import BaseImageProcessor

from ..modeling_jointdetr import JointDetrForPoseEstimation

TEMPLATE = Path(__file__).with_name("model_card_template.md")
PIPELINE_TAG = "keypoint-detection"
TAGS = ["3d-human-pose-estimation", "human-pose", "jointdetr"]

# what a card reports: name with unit, and factor on what the file of an evaluation says
METRIC_LABELS = {
    "mpjpe": ("MPJPE (mm)", 1.0),
    "pa_mpjpe": ("PA-MPJPE (mm)", 1.0),
    "pck_150": ("PCK@150 mm (%)", 100.0),
    "auc": ("AUC (%)", 100.0),
    "pck_torso": ("PCK@0.2 of the torso (%)", 100.0),
    "mpjpe_absolute": ("MPJPE in camera space (mm)", 1.0),
    "mrpe": ("MRPE (mm)", 1.0),
}


@dataclass(frozen=True)
class ReportedEvaluation:
    """Numbers of one evaluation.

    Args:
        dataset: name of the data, for people.
        metrics: the numbers, as entries of the card's `model-index`.
        fine_print: what the numbers depend on, by topic.
    """

    dataset: str
    metrics: list[EvalResult]
    fine_print: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path, dataset: str) -> "ReportedEvaluation":
        """Read the file of an evaluation; ValueError if it is not such a file, or holds none of the metrics."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            means = content["group_means"]
            metrics = _metrics(dataset, content["metrics"], ", mean over frames" if means else "")
            metrics += _metrics(dataset, means, ", mean over groups")
            fine_print = {"protocol": content["protocol"], **content["fine_print"]}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} must be JSON that `jointdetr evaluate --output` wrote: {error!r}") from error
        if not metrics:
            raise ValueError(f"{path} must hold at least one of {', '.join(METRIC_LABELS)}, got none")
        return cls(dataset, metrics, fine_print)


def _metrics(dataset: str, values: dict[str, float | None], addition: str) -> list[EvalResult]:
    """The metrics that a card reports; numbers that do not exist are left out."""
    return [
        EvalResult(
            task_type="keypoint-detection",
            task_name="3D human pose estimation",
            dataset_type=re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-") or "dataset",
            dataset_name=dataset,
            metric_type=kind,
            metric_name=label + addition,
            metric_value=round(factor * values[kind], 2),
        )
        for kind, (label, factor) in METRIC_LABELS.items()
        if values.get(kind) is not None
    ]


@dataclass(frozen=True)
class ModelCardDetails:
    """What a card says that the model itself does not know.

    Args:
        license: of the weights, as the Hub writes it, such as `apache-2.0` or `cc-by-nc-4.0`.
        training_data: what the model was trained on.
        limits: what it cannot do, beside what holds for every model of the package.
        evaluations: numbers, with what they depend on.
        page: a card that is there already: its text is kept, its metadata get what they lack.
        revision: tag or branch that the card's example loads; the newest version by default.
    """

    license: str | None = None
    training_data: str | None = None
    limits: str | None = None
    evaluations: Sequence[ReportedEvaluation] = ()
    page: Path | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        """Refuse details that would go nowhere."""
        if self.page is None and self.license is None:
            raise ValueError("a new card needs `license`, the licence of the weights, such as apache-2.0; got none")
        if self.page is not None and (self.training_data or self.limits):
            raise ValueError(f"`training_data` and `limits` must stand in {self.page} itself, which becomes the card")


def write_model_card(
    folder: Path,
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    repo: str,
    details: ModelCardDetails,
) -> ModelCard:
    """Write the card of a model, `user/name` on the Hub, as `README.md` into the folder that is to be published.

    Raises:
        ValueError: The existing page has metadata that cannot be read, or no licence.
    """
    name = repo.rpartition("/")[2]
    if details.page is None:
        card = ModelCard.from_template(
            ModelCardData(license=details.license, tags=TAGS),
            template_path=str(TEMPLATE),
            repo=repo,
            name=name,
            details=details,
            config=model.config,
            joints=", ".join(model.config.skeleton.joints),
            num_parameters=f"{model.num_parameters() / 1e6:.1f}",
            size=processor.size,
        )
    else:
        card = ModelCard.load(details.page)
        card.data.license = details.license or card.data.license
    if card.data.license is None:
        raise ValueError(f"{details.page} must say `license` in its metadata, or `license` must be given; got neither")
    card.data.library_name = card.data.library_name or "transformers"
    card.data.pipeline_tag = card.data.pipeline_tag or PIPELINE_TAG
    results = [result for evaluation in details.evaluations for result in evaluation.metrics]
    if results:
        card.data.eval_results = results
        card.data.model_name = card.data.model_name or name
    card.save(folder / "README.md")
    return card
