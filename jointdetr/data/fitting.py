"""Rows of a pose dataset whose box shows the labelled person; the others are left out of training, and said.

Converters leave such rows out by the same rule; datasets that others have made may have some.

Shape vocabulary: `rows`, `joints` (J).
"""

import logging
from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np

from ..picture_jointdetr import DECODING_ERRORS, upright_size
from .loading import describe_row, open_stored, undecoded
from .row_checks import box_problem
from .rows import Problem

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 1000
LABELS = ("joints_3d", "joints_3d_valid", "joints_2d", "joints_2d_valid", "visible", "intrinsics", "box")


def fitting_rows(rows: datasets.Dataset) -> datasets.Dataset:
    """Leave out rows whose box misses the picture or holds none of the labelled joints, with one warning for all.

    Args:
        rows: dataset with the columns of `pose_features`.

    Returns:
        The rows that are left; `rows` itself if none is left out.
    """
    stored = undecoded(rows.with_format(None))
    problems = {}
    for number in _doubtful(stored):
        problem = misfit(stored[number])
        if problem is not None:
            problems[number] = problem
    if not problems:
        return rows
    first, problem = next(iter(problems.items()))
    logger.warning(
        "%d of %d rows are left out; the first is row %d (%s): %s",
        *(len(problems), len(rows), first, describe_row(stored[first]), ": ".join(problem)),
    )
    return rows.select([number for number in range(len(rows)) if number not in problems])


def misfit(row: Mapping[str, Any]) -> Problem | None:
    """Return what is wrong with the box of a row whose picture is not decoded; None, too, if it cannot be read."""
    try:
        size = upright_size(open_stored(row["image"]))
    except DECODING_ERRORS:
        return None  # said when the picture is decoded
    return box_problem({name: np.array(row[name]) for name in LABELS}, size)


def _doubtful(rows: datasets.Dataset) -> list[int]:
    """Rows of whom no visible joint lies in the box: only of these must the picture be opened."""
    found = []
    labels = rows.select_columns(["box", "joints_2d", "visible"])
    for start in range(0, len(labels), ROWS_AT_ONCE):
        batch = labels[start : start + ROWS_AT_ONCE]
        points, boxes = np.array(batch["joints_2d"], np.float64), np.array(batch["box"], np.float64)[:, None]
        inside = ((points >= boxes[..., :2]) & (points <= boxes[..., :2] + boxes[..., 2:])).all(axis=-1)
        found += (start + np.flatnonzero(~(inside & np.array(batch["visible"], bool)).any(axis=-1))).tolist()
    return found
