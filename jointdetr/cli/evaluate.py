"""`jointdetr evaluate`: measure a model on a pose dataset, plainly or by a protocol of the papers."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .options import ModelOption, Precision, PrecisionOption, ThresholdOption, load_checkpoint, one_line_errors


class ProtocolName(str, Enum):
    """The papers' protocols, as choices."""

    HUMAN36M_P1 = "human36m-p1"
    HUMAN36M_P2 = "human36m-p2"
    MPI_INF_3DHP = "3dhp"
    THREE_DPW = "3dpw"
    PANOPTIC = "panoptic"


def evaluate(
    dataset: Annotated[str, typer.Option(help="Parquet file, folder or Hub repository of a pose dataset.")],
    model: ModelOption = None,
    dtype: PrecisionOption = Precision.FLOAT32,
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(help="Evaluate as the papers do; without it all rows count, with the model's own joints."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many rows.")] = None,
    threshold: ThresholdOption = 0.5,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops that go through the network at once.")] = 32,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load pictures.")] = 0,
    baseline_dataset: Annotated[
        str | None,
        typer.Option(help="Training data that the trivial baselines are fitted to, instead of the evaluated poses."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File for the numbers: .json, .md or .txt.")] = None,
    reliability: Annotated[
        Path | None, typer.Option(help="Picture, as .png or .svg, of how far the confidence is true.")
    ] = None,
) -> None:
    """Measure a model on a pose dataset: MPJPE, PA-MPJPE, PCK, AUC, camera space and confidence.

    Without a protocol they stand beside what guessing would give.
    """
    from ..data.loading import load_pose_dataset
    from ..evaluation.evaluate import EvaluationSettings, evaluate_model, fit_baselines
    from ..evaluation.evaluate_protocol import evaluate_protocol
    from ..evaluation.protocols import PROTOCOLS
    from ..evaluation.report import require_report_suffix

    if output is not None:
        with one_line_errors(str(output)):
            require_report_suffix(output)
    checkpoint = load_checkpoint(model, dtype)
    settings = EvaluationSettings(
        threshold=threshold, batch_size=batch_size, workers=workers, device=checkpoint.model.device.type
    )
    with one_line_errors(dataset):
        rows = load_pose_dataset(dataset, split)
        rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
        if protocol is None:
            baselines = None
            if baseline_dataset is not None:
                baselines = fit_baselines(load_pose_dataset(baseline_dataset), checkpoint.model.config.skeleton)
            result = evaluate_model(checkpoint.model, checkpoint.processor, rows, settings, baselines)
        else:
            chosen = PROTOCOLS[protocol.value]
            result = evaluate_protocol(checkpoint.model, checkpoint.processor, rows, chosen, settings)
    result.report().print()
    if output is not None:
        with one_line_errors(str(output)):
            result.report().save(output)
    if reliability is not None:
        with one_line_errors(str(reliability)):
            result.reliability.save_figure(reliability)
