"""JSON that people hand over, read with care: what is of a wrong type is said in one line, whatever it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_WHOLE = 2**63 - 1  # what a column of whole numbers holds


def read_json(path: Path, what: str = "a JSON file") -> Any:
    """Read a JSON file in any Unicode that a byte-order mark tells.

    Raises:
        ValueError: It cannot be read or is broken; the file is named.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be {what}, got a broken one: {error}") from error


def numbers(value: Any) -> np.ndarray | None:
    """Turn numbers in lists of equal lengths into an array of float64, null into NaN; None for anything else.

    Unlike numpy, it takes neither texts nor true and false for numbers.
    """
    if not _is_numeric(value):
        return None
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def whole_number(value: Any) -> int | None:
    """Return a whole number that a column can hold, None for anything else; 3.0 is one, true is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST_WHOLE:
        return None
    return int(value) if value == int(value) else None


def shown(value: Any) -> str:
    """Return a value as a message shows it: in one line that is not too long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_numeric(value: Any) -> bool:
    """Whether a value is a number, null, or lists of such."""
    if isinstance(value, list):
        return all(_is_numeric(entry) for entry in value)
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
