"""Run a page of the documentation."""

import json
import sys
from pathlib import Path

import pytest
from documents import run_document

with pytest.MonkeyPatch.context() as monkeypatch:
    run_document(Path(sys.argv[1]), Path.cwd(), monkeypatch)
print(json.dumps("done"))
