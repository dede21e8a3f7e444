"""Folders that many processes fill."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jointdetr.formats import shards
from jointdetr.formats.shards import open_folder


def test_of_many_that_start_together_one_makes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = shards.write_aside

    def write_slowly(path: Path, content: bytes) -> None:
        time.sleep(0.1)
        write(path, content)

    monkeypatch.setattr(shards, "write_aside", write_slowly)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: open_folder(tmp_path / "out", "settings.json", {"seed": 1}), range(4)))
    assert json.loads((tmp_path / "out" / "settings.json").read_text()) == {"seed": 1}


def test_another_start_with_other_settings_is_refused(tmp_path: Path) -> None:
    open_folder(tmp_path, "settings.json", {"seed": 1})
    with pytest.raises(ValueError, match=r"other settings: seed=1 \(asked for 2\)"):
        open_folder(tmp_path, "settings.json", {"seed": 2})
