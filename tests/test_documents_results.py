"""The tables of docs/results.md are those of the numbers beside it, and name what the comparison has."""

import json

import pytest
from documents import REPOSITORY

from benchmarks.accuracy.compare import SECTIONS, Variant, results_table
from benchmarks.accuracy.peers import CONTESTANTS, TITLE

PAGE = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
RESULTS = json.loads((REPOSITORY / "docs" / "results.json").read_text())["steps"]["1000"]


GONE = (
    Variant("look-twice", "look forward twice"),
    Variant("denoising", "3 groups of denoising queries"),
    Variant("groups", "3 groups of queries"),
    Variant("quality", "class targets by position quality, 100 mm"),
    Variant("likelihood", "residual log-likelihood in place of L1"),
    Variant("dense", "body parts and depth as an auxiliary task"),
)


@pytest.mark.parametrize(
    ("title", "variants"), [*SECTIONS.items(), (TITLE, CONTESTANTS), ("Switches that are gone", GONE)]
)
def test_tables_are_made_of_the_numbers(title, variants):
    table = results_table(title, variants, RESULTS)
    assert table.rows
    assert table.markdown() in PAGE
