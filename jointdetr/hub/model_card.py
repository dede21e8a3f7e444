"""The card of a published model: metadata that the Hub reads, and a page for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from transformers.image_processing_utils import BaseImageProcessor

from ..modeling_jointdetr import JointDetrForPoseEstimation
from .evaluations import ReportedEvaluation

TEMPLATE = Path(__file__).with_name("model_card_template.md")
PIPELINE_TAG = "keypoint-detection"
TAGS = ["3d-human-pose-estimation", "human-pose", "jointdetr"]


@dataclass(frozen=True)
class ModelCardDetails:
    """What a card says that the model itself does not know.

    Args:
        license: identifier of the weights' licence as the Hub writes it, such as `apache-2.0` or `cc-by-nc-4.0`.
        training_data: what the model was trained on.
        limits: what it cannot do, beside what holds for every model of the package.
        evaluations: numbers, with what they depend on.
        page: a card that is there already. Its text is kept; the metadata get what they lack.
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
            raise ValueError(
                "a new model card needs `license`, the licence of the weights, such as apache-2.0; got none"
            )
        if self.page is not None and (self.training_data or self.limits):
            raise ValueError(f"`training_data` and `limits` must stand in {self.page} itself, which becomes the card")


def write_model_card(
    folder: Path,
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    repo: str,
    details: ModelCardDetails,
) -> ModelCard:
    """Write `README.md` into a folder that is to be published.

    Args:
        folder: Where to write.
        model: The model, for its sizes and joints.
        processor: Its image processor, for the size of its input.
        repo: Name on the Hub, `user/name`.
        details: What the model itself does not know.

    Returns:
        The card.

    Raises:
        ValueError: The existing page has metadata that cannot be read, or no licence.
    """
    is_new = details.page is None
    card = _new_card(model, processor, repo, details) if is_new else _completed_card(repo, details)
    card.save(folder / "README.md")
    return card


def _new_card(
    model: JointDetrForPoseEstimation, processor: BaseImageProcessor, repo: str, details: ModelCardDetails
) -> ModelCard:
    """Fill in the template."""
    config = model.config
    data = _with_results(
        ModelCardData(license=details.license, library_name="transformers", pipeline_tag=PIPELINE_TAG, tags=TAGS),
        repo,
        details,
    )
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        repo=repo,
        name=repo.rpartition("/")[2],
        details=details,
        config=config,
        joints=", ".join(config.skeleton.joints),
        num_parameters=f"{model.num_parameters() / 1e6:.1f}",
        size=processor.size,
    )


def _completed_card(repo: str, details: ModelCardDetails) -> ModelCard:
    """Add to an existing card's metadata."""
    card = ModelCard.load(details.page)
    card.data.license = details.license or card.data.license
    if card.data.license is None:
        raise ValueError(f"{details.page} must say `license` in its metadata, or `license` must be given; got neither")
    card.data.library_name = card.data.library_name or "transformers"
    card.data.pipeline_tag = card.data.pipeline_tag or PIPELINE_TAG
    _with_results(card.data, repo, details)
    return card


def _with_results(data: ModelCardData, repo: str, details: ModelCardDetails) -> ModelCardData:
    """Add the numbers, from which the Hub's `model-index` is made."""
    results = [result for evaluation in details.evaluations for result in evaluation.results()]
    if results:
        data.eval_results = results
        data.model_name = data.model_name or repo.rpartition("/")[2]
    return data
