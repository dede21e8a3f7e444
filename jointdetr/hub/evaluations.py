"""What `jointdetr evaluate --output FILE.json` wrote, as a model card reports it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

METRIC_LABELS = {
    "mpjpe": ("MPJPE (mm)", 1.0),
    "pa_mpjpe": ("PA-MPJPE (mm)", 1.0),
    "pck_150": ("PCK@150 mm (%)", 100.0),
    "auc": ("AUC (%)", 100.0),
    "pck_torso": ("PCK@0.2 of the torso (%)", 100.0),
    "mpjpe_absolute": ("MPJPE in camera space (mm)", 1.0),
    "mrpe": ("MRPE (mm)", 1.0),
}
"""Metrics that a card reports: name with unit, and factor on what the file says."""


@dataclass(frozen=True)
class ReportedMetric:
    """One number: its `kind`, a key of `METRIC_LABELS`, its `label` with the unit, and its `value` in that unit."""

    kind: str
    label: str
    value: float


@dataclass(frozen=True)
class ReportedEvaluation:
    """Numbers of one evaluation.

    Args:
        dataset: name of the data, for people.
        metrics: the numbers.
        fine_print: what the numbers depend on, by topic.
    """

    dataset: str
    metrics: list[ReportedMetric]
    fine_print: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path, dataset: str) -> "ReportedEvaluation":
        """Read the file of an evaluation.

        Raises:
            ValueError: It is not such a file, or holds none of the metrics.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            means = content["group_means"]
            metrics = _metrics(content["metrics"], ", mean over frames" if means else "")
            metrics += _metrics(means, ", mean over groups")
            fine_print = {"protocol": content["protocol"], **content["fine_print"]}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} must be JSON that `jointdetr evaluate --output` wrote: {error!r}") from error
        if not metrics:
            raise ValueError(f"{path} must hold at least one of {', '.join(METRIC_LABELS)}, got none")
        return cls(dataset, metrics, fine_print)

    def results(self) -> list[EvalResult]:
        """Entries of the card's `model-index`."""
        return [
            EvalResult(
                task_type="keypoint-detection",
                task_name="3D human pose estimation",
                dataset_type=re.sub(r"[^a-z0-9]+", "-", self.dataset.lower()).strip("-") or "dataset",
                dataset_name=self.dataset,
                metric_type=metric.kind,
                metric_name=metric.label,
                metric_value=metric.value,
            )
            for metric in self.metrics
        ]


def _metrics(values: dict[str, float | None], addition: str) -> list[ReportedMetric]:
    """The metrics that a card reports; numbers that do not exist are left out."""
    return [
        ReportedMetric(kind, label + addition, round(factor * values[kind], 2))
        for kind, (label, factor) in METRIC_LABELS.items()
        if values.get(kind) is not None
    ]
