"""The numbers of an evaluation, and how they are laid out as tables with their fine print."""

from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

from rich.console import Console

from .protocols import METRICS, Protocol
from .reliability import Reliability
from .report import Report, ReportTable, number

COLUMNS = {
    **{name: (metric.label, metric.factor) for name, metric in METRICS.items()},
    "recall": ("detected %", 100.0),
    "pck_torso": ("PCK@0.2 torso %", 100.0),
}
"""Label and factor on what is printed, of metrics that are columns."""
TORSO_RULE = (
    "joints closer in the picture than 0.2 of the distance of the labelled hips' middle from the shoulders', strictly"
)
_PARTS = {"": "all", "_visible": "visible", "_occluded": "occluded"}


@dataclass(frozen=True)
class EvaluationResult:
    """Numbers of a model by a protocol, per group, per joint and of the trivial baselines.

    Args:
        protocol: by which it was evaluated.
        metrics: over all poses, those of the protocol first: errors in mm (`mpjpe`, `pa_mpjpe`, and `mpjpe_` with
            `detected`, `visible` or `occluded` for some of the joints) and fractions (`pck_150`, `auc`, `recall`);
            in the picture `pck_torso`, the fraction of the joints of arms and legs that are within 0.2 of the torso's
            length, and `point_error`, the mean distance as a fraction of the crop's side. With intrinsics also
            `mpjpe_absolute` and `mrpe` in mm, over the fraction `placed` of the people. NaN where there is no such
            joint.
        joints: for each scored joint its metrics.
        labels: how many scored joints have a label in 3D (`joints_3d`) and in the picture (`joints_2d`).
        groups: for each group the protocol's metrics and its `poses`; empty without groups.
        baselines: for each trivial baseline the protocol's metrics.
        refinement: `before` and `after` the refinement network, `mpjpe` and `pa_mpjpe` in mm, each also with
            `_visible` and `_occluded`: the alignment of PA-MPJPE is by all joints. None without such a network.
        reliability: whether the model's confidence can be used, over all joints of the data's skeleton.
        fine_print: what the numbers depend on, by topic.
    """

    protocol: Protocol
    metrics: dict[str, float]
    joints: dict[str, dict[str, float]]
    labels: dict[str, int]
    groups: dict[str, dict[str, float]]
    baselines: dict[str, dict[str, float]]
    refinement: dict[str, dict[str, float]] | None
    reliability: Reliability
    fine_print: dict[str, Any] = field(default_factory=dict)

    @property
    def group_means(self) -> dict[str, float]:
        """The protocol's metrics as means of the groups' means; empty without groups."""
        if not self.groups:
            return {}
        return {
            name: sum(values[name] for values in self.groups.values()) / len(self.groups)
            for name in self.protocol.metrics
        }

    @property
    def rules(self) -> dict[str, str]:
        """How the metrics that the data have labels for are computed."""
        rules = {name: METRICS[name].rule for name in self.protocol.metrics} if self.labels["joints_3d"] else {}
        return rules | ({"pck_torso": TORSO_RULE} if self.labels["joints_2d"] else {})

    @property
    def headline(self) -> float:
        """The number that papers quote first, in its own unit (mm or a fraction)."""
        means = self.group_means if self.protocol.headline_mean == "groups" else self.metrics
        return means[self.protocol.metrics[0]]

    def flat(self) -> dict[str, float]:
        """All numbers in one dictionary, with names such as `mean_pose/mpjpe` and `joint/head/recall`."""
        flat = dict(self.metrics)
        for name, values in self.baselines.items():
            flat |= {f"{name}/{metric}": value for metric, value in values.items()}
        for name, values in self.joints.items():
            flat |= {f"joint/{name}/{metric}": value for metric, value in values.items()}
        return flat

    def report(self) -> Report:
        """Lay everything out that the data have labels for."""
        tables = []
        if self.labels["joints_3d"]:
            tables += [self._overall(), *self._by_group(), self._some_joints()]
        if self.labels["joints_2d"]:
            tables.append(self._in_the_picture())
        if "mrpe" in self.metrics:
            tables.append(self._in_camera_space())
        tables.append(self._by_joint())
        if self.refinement is not None:
            tables.append(_refinement_table(self.refinement))
        tables.append(_reliability_table(self.reliability))
        return Report(f"{self.protocol.title} ({self.protocol.name})", tables, self.fine_print, self._content())

    def save(self, path: str | Path) -> None:
        """Write everything as `.json`, where numbers that do not exist are null, or the tables as `.md` or `.txt`."""
        self.report().save(path)

    def print(self, console: Console | None = None) -> None:
        """Print the tables and what they depend on."""
        self.report().print(console)

    def _content(self) -> dict[str, Any]:
        """Everything at full precision; fractions stay fractions."""
        content = {name: value for name, value in vars(self).items() if value is not None}
        return content | {
            "protocol": self.protocol.name,
            "group_means": self.group_means,
            "reliability": self.reliability.content(),
        }

    def _overall(self) -> ReportTable:
        """The protocol's metrics of the model, by both means, and of the baselines."""
        names = self.protocol.metrics
        lines = {"model": self.metrics}
        if self.groups:
            lines = {
                "model, mean over frames": self.metrics,
                f"model, mean of the {self.protocol.grouped_by}s' means": self.group_means,
            }
        rows = [[line, *_cells(values, names)] for line, values in (lines | self.baselines).items()]
        return ReportTable("All joints", ["predictor", *_labels(names)], rows)

    def _by_group(self) -> list[ReportTable]:
        if not self.groups:
            return []
        group, names = self.protocol.grouped_by, self.protocol.metrics
        rows = [[name, str(int(values["poses"])), *_cells(values, names)] for name, values in self.groups.items()]
        return [ReportTable(f"By {group}", [group, "poses", *_labels(names)], rows)]

    def _some_joints(self) -> ReportTable:
        parts = ("detected", "visible", "occluded")
        rows = [[f"{part} joints", number(self.metrics[f"mpjpe_{part}"])] for part in parts]
        return ReportTable("Some of the joints", ["which", "MPJPE mm"], rows)

    def _in_the_picture(self) -> ReportTable:
        rows = [
            ["arms and legs within 0.2 of the torso's length (PCK@0.2), %", number(100 * self.metrics["pck_torso"])],
            ["distance, % of the crop's side", number(100 * self.metrics["point_error"])],
            ["joints detected, %", number(100 * self.metrics["recall"])],
        ]
        return ReportTable("In the picture", ["what", "value"], rows)

    def _in_camera_space(self) -> ReportTable:
        rows = [
            ["MPJPE in camera space (absolute), mm", number(self.metrics["mpjpe_absolute"])],
            ["error of the root in camera space (MRPE), mm", number(self.metrics["mrpe"])],
            ["people placed in camera space, %", number(100 * self.metrics["placed"])],
        ]
        return ReportTable("Camera space, without true depth or scale", ["what", "value"], rows)

    def _by_joint(self) -> ReportTable:
        labelled = {**dict.fromkeys(METRICS, self.labels["joints_3d"]), "pck_torso": self.labels["joints_2d"]}
        names = [name for name in next(iter(self.joints.values())) if labelled.get(name, True)]
        rows = [[joint, *_cells(values, names)] for joint, values in self.joints.items()]
        return ReportTable("By joint, mean over frames", ["joint", *_labels(names)], rows)


def _labels(names: list[str] | tuple[str, ...]) -> list[str]:
    return [COLUMNS[name][0] for name in names]


def _cells(values: dict[str, float], names: list[str] | tuple[str, ...]) -> list[str]:
    return [number(COLUMNS[name][1] * values[name]) for name in names]


def _refinement_table(refinement: dict[str, dict[str, float]]) -> ReportTable:
    """Lay out what the refinement network makes better or worse."""
    columns = {"mpjpe": "MPJPE mm", "pa_mpjpe": "PA-MPJPE mm"}
    rows = [
        [joints, *(number(values[metric + part]) for metric in columns for values in refinement.values())]
        for part, joints in _PARTS.items()
    ]
    header = ["joints", *(f"{label} {when}" for label in columns.values() for when in refinement)]
    return ReportTable("Refinement network", header, rows)


def _reliability_table(reliability: Reliability) -> ReportTable:
    """Lay out how far the confidence is true."""
    labels = {
        "score_ece": ("score: expected calibration error against hits within 150 mm, %", 100.0, 1),
        "sigma_gap": ("expected error: mean gap to the measured error, mm", 1.0, 1),
        "sigma_rank_correlation": ("expected error: rank correlation with the measured error", 1.0, 2),
        "visible_ece": ("visibility: expected calibration error, %", 100.0, 1),
        "visible_accuracy": ("visibility: accuracy at one half, %", 100.0, 1),
    }
    rows = [
        [label, number(factor * reliability.metrics[name], digits)]
        for name, (label, factor, digits) in labels.items()
        if not isnan(reliability.metrics.get(name, nan))
    ]
    return ReportTable("Confidence, of every joint whatever its score", ["what", "value"], rows)
