"""What became of a conversion: rows, what was left out and why, what failed; in words and as a dataset's card."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MOST_EXAMPLES = 5


@dataclass
class Refusals:
    """Rows left out for one reason: how many, and the first of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: "Refusals") -> None:
        """Count more of them."""
        self.count += other.count
        self.examples = (self.examples + other.examples)[:MOST_EXAMPLES]


@dataclass
class RecordingReport:
    """What became of a recording: its rows, what was left out, and the error that stopped it.

    `reprojection_px` has the mean distance of 2D labels and projected 3D labels of each row that has both.
    """

    name: str
    split: str
    rows: int = 0
    skipped: dict[str, Refusals] = field(default_factory=dict)
    failed: str | None = None
    reprojection_px: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def skip(self, reason: str, example: str, count: int = 1) -> None:
        """Count rows that are left out."""
        self.skipped.setdefault(reason, Refusals()).add(Refusals(count, [example]))

    @classmethod
    def load(cls, path: Path) -> "RecordingReport":
        """Read what `json.dumps(asdict(report))` wrote."""
        values = json.loads(path.read_text())
        values["skipped"] = {reason: Refusals(**refusals) for reason, refusals in values["skipped"].items()}
        return cls(**values)


@dataclass(frozen=True)
class ConversionReport:
    """What a converted folder holds, and what was left out; saved as `conversion.json`.

    Args:
        rows: number of rows of each split.
        skipped: rows left out, by the reason.
        failed: what is wrong with each recording that could not be converted.
        reprojection_px: median and largest of the rows' mean distances of 2D labels and projected 3D labels; empty if
            no row has both.
        notes: what else there is to say, such as joints whose names are not known; each once.
    """

    rows: dict[str, int]
    skipped: dict[str, Refusals]
    failed: dict[str, str]
    reprojection_px: dict[str, float]
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Say it in words."""
        for split, count in self.rows.items():
            yield f"{split}: {count} rows"
        if self.reprojection_px:
            median, largest = self.reprojection_px["median"], self.reprojection_px["max"]
            yield f"3D falls on 2D within {median:.2f} px (median of the rows), {largest:.2f} px (worst row)"
        for reason, refusals in self.skipped.items():
            yield f"skipped {refusals.count}: {reason}"
            yield from (f"    {example}" for example in refusals.examples)
        yield from self.notes
        yield from (f"failed {name}: {reason}" for name, reason in self.failed.items())

    def complaints(self) -> Iterator[str]:
        """Say what must be put right: recordings that failed, splits without a row."""
        if self.failed:
            name, reason = next(iter(self.failed.items()))
            yield f"{len(self.failed)} recordings failed, the others are converted; the first is {name}: {reason}"
        yield from (f"the split {split!r} has no row" for split, count in self.rows.items() if not count)


def gather(recordings: Sequence[RecordingReport]) -> ConversionReport:
    """Sum up what became of the recordings of a folder."""
    rows: dict[str, int] = {}
    skipped: dict[str, Refusals] = {}
    for recording in recordings:
        rows[recording.split] = rows.get(recording.split, 0) + recording.rows
        for reason, refusals in recording.skipped.items():
            skipped.setdefault(reason, Refusals()).add(refusals)
    failed: dict[str, str] = {}
    for recording in recordings:
        if recording.failed is not None:  # names differ within a split only
            name = f"{recording.split}-{recording.name}" if recording.name in failed else recording.name
            failed[name] = recording.failed
    errors = np.concatenate([recording.reprojection_px for recording in recordings])
    summary = {"median": float(np.median(errors)), "max": float(errors.max())} if len(errors) else {}
    notes = list(dict.fromkeys(note for recording in recordings for note in recording.notes))
    return ConversionReport(rows, skipped, failed, summary, notes)


def write_card(settings: Mapping[str, Any], report: ConversionReport) -> str:
    """Return the README that tells `load_dataset` where the splits are, and people what was converted and how."""
    files = "\n".join(
        f"  - split: {split}\n    path: data/{split}-*.parquet" for split, count in report.rows.items() if count
    )
    said = "\n".join(f"    {line}" for line in report.lines())
    short = {
        name: value.get("kind", "given") if isinstance(value, dict) else value for name, value in settings.items()
    }
    options = ", ".join(f"{name} {value}" for name, value in short.items() if value is not None and name != "target")
    return (
        f"---\nlicense: other\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n"
        f"# Converted by jointdetr\n\n{options}. The licence of the source holds.\n\n{said}\n"
    )
