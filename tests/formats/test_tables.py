"""Plain tables: both kinds of file hold the same numbers."""

import csv

import numpy as np
import pytest
from pyarrow import parquet

from jointdetr.formats.tables import write_columns

COLUMNS = {"frame": np.array([0, 1, 2]), "bend_deg": np.array([1.25, np.nan, -90.123456789])}


def test_csv_leaves_what_is_not_known_empty(tmp_path):
    write_columns(COLUMNS, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["0", "1", "2"]
    assert [row["bend_deg"] for row in rows] == ["1.25", "", "-90.123457"]


def test_parquet_has_null_for_what_is_not_known(tmp_path):
    write_columns(COLUMNS, tmp_path / "table.parquet")
    table = parquet.read_table(tmp_path / "table.parquet")
    assert table.column("frame").to_pylist() == [0, 1, 2]
    assert table.column("bend_deg").to_pylist() == [1.25, None, -90.123456789]


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a table ending in .csv or .parquet, got '.xls'"):
        write_columns(COLUMNS, tmp_path / "table.xls")
