"""`jointdetr evaluate`: measure a model on a pose dataset."""

from pathlib import Path
from typing import Annotated

import typer

from .options import ModelOption, ThresholdOption, load_checkpoint, one_line_errors


def evaluate(
    dataset: Annotated[str, typer.Option(help="Parquet file, folder or Hub repository of a pose dataset.")],
    model: ModelOption = None,
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many rows.")] = None,
    threshold: ThresholdOption = 0.5,
    output: Annotated[Path | None, typer.Option(help="JSON file for the numbers.")] = None,
) -> None:
    """Measure a model on a pose dataset: MPJPE, PA-MPJPE, PCK and AUC, beside what guessing would give."""
    from ..data.loading import load_pose_dataset
    from ..training.evaluate import EvaluationSettings, evaluate_model

    checkpoint = load_checkpoint(model)
    with one_line_errors(dataset):
        rows = load_pose_dataset(dataset, split)
        rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
        settings = EvaluationSettings(threshold=threshold, device=checkpoint.model.device.type)
        result = evaluate_model(checkpoint.model, checkpoint.processor, rows, settings)
    result.print()
    if output is not None:
        with one_line_errors(str(output)):
            result.save(output)
