"""`jointdetr evaluate`: measure a model on a pose dataset, plainly or by a protocol of the papers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import BatchSizeOption, ModelOption, PrecisionOption, ThresholdOption, load_checkpoint, one_line_errors

ProtocolName = Literal["plain", "human36m-p1", "human36m-p2", "3dhp", "3dpw", "panoptic"]


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure a model on a pose dataset: MPJPE, PA-MPJPE, PCK, AUC, camera space and confidence.

    They stand beside what guessing would give. Data with labels in the picture alone are measured there, by PCK.
    """  # the command's help: Typer makes its options of the fields

    dataset: Annotated[str, typer.Option(help="Parquet file, folder or Hub repository of a pose dataset.")]
    model: ModelOption = None
    dtype: PrecisionOption = "float32"
    protocol: Annotated[
        ProtocolName, typer.Option(help="As the papers do, or plain: all rows count, with the model's own joints.")
    ] = "plain"
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "train"
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many rows.")] = None
    threshold: ThresholdOption = 0.5
    batch_size: BatchSizeOption = 32
    workers: Annotated[int, typer.Option(min=0, help="Processes that load pictures.")] = 0
    baseline_dataset: Annotated[
        str | None, typer.Option(help="Training data for the trivial baselines, instead of the evaluated poses.")
    ] = None
    output: Annotated[Path | None, typer.Option(help="File for the numbers: .json or .md.")] = None
    reliability: Annotated[
        Path | None, typer.Option(help="Picture, as .png or .svg, of how far the confidence is true.")
    ] = None

    def run(self) -> None:
        """Measure, print, and write what was asked for."""
        from ..data.loading import load_pose_dataset
        from ..evaluation.evaluate import EvaluationSettings, evaluate_model, fit_baselines
        from ..evaluation.protocols import PROTOCOLS
        from ..evaluation.result import require_report_suffix

        if self.output is not None:
            with one_line_errors(str(self.output)):
                require_report_suffix(self.output)
        processor, model = load_checkpoint(self.model, self.dtype)
        protocol = PROTOCOLS[self.protocol]
        settings = EvaluationSettings(self.threshold, self.batch_size, self.workers, model.device.type, protocol)
        with one_line_errors(self.dataset):
            rows = load_pose_dataset(self.dataset, self.split)
            rows = rows if self.limit is None else rows.take(min(self.limit, len(rows)))
            baselines = None
            if self.baseline_dataset is not None:
                training = load_pose_dataset(self.baseline_dataset)
                baselines = fit_baselines(training, protocol.skeleton_of(training, model.config.skeleton))
            result = evaluate_model(model, processor, rows, settings, baselines)
        result.print()
        for path, write in ((self.output, result.save), (self.reliability, result.reliability.save_figure)):
            if path is not None:
                with one_line_errors(str(path)):
                    write(path)
