"""The numbers of an evaluation as tables: printed, or saved as JSON or Markdown with their fine print."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .protocols import METRICS, Protocol
from .reliability import HIT_MM, Reliability

SUFFIXES = (".json", ".md")

COLUMNS = {
    **{name: (metric.label, metric.factor, 1) for name, metric in METRICS.items()},
    "poses": ("poses", 1.0, 0),
    "recall": ("detected %", 100.0, 1),
    "pck_torso": ("PCK@0.2 torso %", 100.0, 1),
}
"""Label, factor and digits of what is printed, of metrics that are columns."""
TORSO_RULE = (
    "joints closer in the picture than 0.2 of the distance of the labelled hips' middle from the shoulders', strictly"
)
_PARTS = {"": "all", "_visible": "visible", "_occluded": "occluded"}
LISTS = {
    "Some of the joints": {
        "mpjpe_detected": ("detected joints: MPJPE, mm", 1.0, 1),
        "mpjpe_visible": ("visible joints: MPJPE, mm", 1.0, 1),
        "mpjpe_occluded": ("occluded joints: MPJPE, mm", 1.0, 1),
    },
    "In the picture": {
        "pck_torso": ("arms and legs within 0.2 of the torso's length (PCK@0.2), %", 100.0, 1),
        "point_error": ("distance, % of the crop's side", 100.0, 1),
        "recall": ("joints detected, %", 100.0, 1),
    },
    "Camera space, without true depth or scale": {
        "mpjpe_absolute": ("MPJPE in camera space (absolute), mm", 1.0, 1),
        "mrpe": ("error of the root in camera space (MRPE), mm", 1.0, 1),
        "placed": ("people placed in camera space, %", 100.0, 1),
    },
    "Confidence, of every joint whatever its score": {
        "score_ece": ("score: expected calibration error against hits within 150 mm, %", 100.0, 1),
        "sigma_gap": ("expected error: mean gap to the measured error, mm", 1.0, 1),
        "sigma_rank_correlation": ("expected error: rank correlation with the measured error", 1.0, 2),
        "visible_ece": ("visibility: expected calibration error, %", 100.0, 1),
        "visible_accuracy": ("visibility: accuracy at one half, %", 100.0, 1),
    },
}
"""The same of other metrics, by the titles of their tables."""


def number(value: float, digits: int = 1) -> str:
    """Round a number for a table; a dash stands for one that does not exist."""
    return "-" if value != value else f"{value:.{digits}f}"


@dataclass(frozen=True)
class ReportTable:
    """A table of strings."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Lay the table out as Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return f"### {self.title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def rich(self) -> Table:
        """Lay the table out for a console; numbers stand on the right."""
        table = Table(title=self.title, box=box.SIMPLE_HEAD)
        for index, name in enumerate(self.header):
            is_number = index > 0 and all(row[index][:1].isdigit() or row[index] in ("-", "") for row in self.rows)
            table.add_column(name, justify="right" if is_number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


@dataclass
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
        groups, names = self.groups.values(), self.protocol.metrics
        return {name: sum(values[name] for values in groups) / len(groups) for name in names} if groups else {}

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
        for name, values in (self.baselines | {f"joint/{name}": of for name, of in self.joints.items()}).items():
            flat |= {f"{name}/{metric}": value for metric, value in values.items()}
        return flat

    @property
    def title(self) -> str:
        """The protocol's title and name."""
        return f"{self.protocol.title} ({self.protocol.name})"

    def tables(self) -> list[ReportTable]:
        """Lay everything out that the data have labels for."""
        names, group = self.protocol.metrics, self.protocol.grouped_by
        labelled = {**dict.fromkeys(METRICS, self.labels["joints_3d"]), "pck_torso": self.labels["joints_2d"]}
        tables = []
        if self.labels["joints_3d"]:
            model = {"model": self.metrics}
            if self.groups:
                of_means = f"model, mean of the {group}s' means"
                model = {"model, mean over frames": self.metrics, of_means: self.group_means}
            tables.append(_column_table("All joints", "predictor", names, model | self.baselines))
            if self.groups:
                tables.append(_column_table(f"By {group}", group, ("poses", *names), self.groups))
        titles = [title for title in LISTS if title != "In the picture" or self.labels["joints_2d"]]
        tables += _list_tables(self.metrics, titles)
        known = [name for name in next(iter(self.joints.values())) if labelled.get(name, True)]
        tables.append(_column_table("By joint, mean over frames", "joint", known, self.joints))
        if self.refinement is not None:
            tables.append(_refinement_table(self.refinement))
        return [*tables, *_list_tables(self.reliability.metrics, LISTS)]

    def print_summary(self) -> None:
        """Print the first table, as between the steps of a training."""
        Console().print(self.title, self.tables()[0].rich(), sep="\n")

    def print(self) -> None:
        """Print the tables and what they depend on."""
        console = Console()
        console.print(self.title, style="bold")
        for table in self.tables():
            console.print(table.rich())
        for name, value in self.fine_print.items():
            console.print(f"{name}: {value}", highlight=False)

    def save(self, path: str | Path) -> None:
        """Write everything as `.json`, where numbers that do not exist are null, or the tables as `.md`.

        Raises:
            ValueError: Another suffix.
        """
        path = Path(path)
        require_report_suffix(path)
        path.write_text(self._json() if path.suffix == ".json" else self._markdown(), encoding="utf-8")

    def _json(self) -> str:
        """Everything at full precision; fractions stay fractions."""
        content = {name: value for name, value in vars(self).items() if value is not None}
        content |= {"protocol": self.protocol.name, "group_means": self.group_means}
        content["reliability"] = asdict(self.reliability) | {"hit_mm": HIT_MM}
        # the first writing says NaN, which JSON has not
        content = json.loads(json.dumps(content), parse_constant=lambda name: None)
        return json.dumps(content, indent=2) + "\n"

    def _markdown(self) -> str:
        fine_print = "\n".join(f"- **{name}**: {value}" for name, value in self.fine_print.items())
        return "\n\n".join([f"## {self.title}", *(table.markdown() for table in self.tables()), fine_print]) + "\n"


def _column_table(title: str, lines_are: str, names: Sequence[str], lines: dict[str, dict[str, float]]) -> ReportTable:
    rows = [
        [line, *(number(COLUMNS[name][1] * values[name], COLUMNS[name][2]) for name in names)]
        for line, values in lines.items()
    ]
    return ReportTable(title, [lines_are, *(COLUMNS[name][0] for name in names)], rows)


def _refinement_table(refinement: dict[str, dict[str, float]]) -> ReportTable:
    columns = {"mpjpe": "MPJPE mm", "pa_mpjpe": "PA-MPJPE mm"}
    rows = [
        [joints, *(number(values[metric + part]) for metric in columns for values in refinement.values())]
        for part, joints in _PARTS.items()
    ]
    header = ["joints", *(f"{label} {when}" for label in columns.values() for when in refinement)]
    return ReportTable("Refinement network", header, rows)


def _list_tables(metrics: dict[str, float], titles: Sequence[str]) -> list[ReportTable]:
    """Lay numbers out that are no columns; those that do not exist are left out."""
    tables = []
    for title in titles:
        known = {name: line for name, line in LISTS[title].items() if not isnan(metrics.get(name, nan))}
        rows = [[label, number(factor * metrics[name], digits)] for name, (label, factor, digits) in known.items()]
        tables.append(ReportTable(title, ["what", "value"], rows))
    return [table for table in tables if table.rows]


def require_report_suffix(path: Path) -> None:
    """Raise `ValueError` unless a report can be written to a file of this name."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a report must end in one of {', '.join(SUFFIXES)}, got {path.name!r}")
