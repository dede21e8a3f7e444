"""`jointdetr evaluate`: measure a model on a pose dataset, plainly or by a protocol of the papers."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import (
    BatchSizeOption,
    ModelOption,
    PrecisionOption,
    ThresholdOption,
    load_checkpoint,
    one_line_errors,
)

ProtocolName = Literal["plain", "human36m-p1", "human36m-p2", "3dhp", "3dpw", "panoptic"]

BaselineOption = Annotated[
    str | None,
    typer.Option(help="Training data that the trivial baselines are fitted to, instead of the evaluated poses."),
]
ReliabilityOption = Annotated[
    Path | None, typer.Option(help="Picture, as .png or .svg, of how far the confidence is true.")
]


def evaluate(
    dataset: Annotated[str, typer.Option(help="Parquet file, folder or Hub repository of a pose dataset.")],
    model: ModelOption = None,
    dtype: PrecisionOption = "float32",
    protocol: Annotated[
        ProtocolName,
        typer.Option(help="As the papers do, or plain: all rows count, with the model's own joints."),
    ] = "plain",
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many rows.")] = None,
    threshold: ThresholdOption = 0.5,
    batch_size: BatchSizeOption = 32,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load pictures.")] = 0,
    baseline_dataset: BaselineOption = None,
    output: Annotated[Path | None, typer.Option(help="File for the numbers: .json or .md.")] = None,
    reliability: ReliabilityOption = None,
) -> None:
    """Measure a model on a pose dataset: MPJPE, PA-MPJPE, PCK, AUC, camera space and confidence.

    They stand beside what guessing would give. Data with labels in the picture alone are measured there, by PCK.
    """
    from ..data.loading import load_pose_dataset
    from ..evaluation.evaluate import EvaluationSettings, evaluate_model, fit_baselines
    from ..evaluation.protocols import PROTOCOLS
    from ..evaluation.result import require_report_suffix

    if output is not None:
        with one_line_errors(str(output)):
            require_report_suffix(output)
    checkpoint = load_checkpoint(model, dtype)
    device = checkpoint.model.device.type
    settings = EvaluationSettings(threshold, batch_size, workers, device, PROTOCOLS[protocol])
    with one_line_errors(dataset):
        rows = load_pose_dataset(dataset, split)
        rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
        baselines = None
        if baseline_dataset is not None:
            training = load_pose_dataset(baseline_dataset)
            skeleton = settings.protocol.skeleton_of(training, checkpoint.model.config.skeleton)
            baselines = fit_baselines(training, skeleton)
        result = evaluate_model(checkpoint.model, checkpoint.processor, rows, settings, baselines)
    result.print()
    for path, write in ((output, result.save), (reliability, result.reliability.save_figure)):
        if path is not None:
            with one_line_errors(str(path)):
                write(path)
