"""Plain tables of named columns, as CSV for spreadsheets or as Parquet."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

DECIMALS = 6


def write_columns(columns: Mapping[str, np.ndarray], path: str | Path, about: Mapping[str, str] | None = None) -> None:
    """Write columns of equal length by the path's suffix; NaN is an empty field in CSV and null in Parquet.

    Args:
        columns: One-dimensional numbers by name.
        path: File to write, .csv or .parquet.
        about: What columns hold, by name; goes to the fields' metadata of a Parquet file.

    Raises:
        ValueError: Another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        _write_parquet(columns, path, about or {})
    elif suffix == ".csv":
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(map(_fields, zip(*(values.tolist() for values in columns.values()), strict=True)))
    else:
        raise ValueError(f"{path}: expected a table ending in .csv or .parquet, got {Path(path).suffix!r}")


def _write_parquet(columns: Mapping[str, np.ndarray], path: str | Path, about: Mapping[str, str]) -> None:
    from pyarrow import parquet

    arrays = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    fields = [
        pa.field(name, array.type, metadata={"description": about[name]} if name in about else None)
        for name, array in arrays.items()
    ]
    parquet.write_table(pa.table(list(arrays.values()), schema=pa.schema(fields)), path)


def _fields(row: tuple[int | float, ...]) -> list[str]:
    """Numbers of one row as text, whole ones as such."""
    texts = []
    for value in row:
        if isinstance(value, float):
            texts.append(f"{value:.{DECIMALS}g}" if math.isfinite(value) else "")
        else:
            texts.append(str(value))
    return texts
