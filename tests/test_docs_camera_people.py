"""The pages about cameras and about several people keep their promises."""

import json

import pytest
from documents import REPOSITORY, run_document


def write_page(path, printed: str):
    path.write_text(f"```python\nprint({printed!r})\n```\n\n```text\nresidual 4.1 px of 2 people at 5245\n```\n")
    return path


def test_promised_numbers_are_held_to_their_units(tmp_path, monkeypatch):
    run_document(write_page(tmp_path / "page.md", "residual 4.4 px of 2 people at 5250"), tmp_path, monkeypatch)
    for wrong in ("4.8 px of 2 people at 5245", "4.1 px of 3 people at 5245", "4.1 px of 2 people at 5260"):
        (tmp_path / wrong).mkdir()
        with pytest.raises(AssertionError, match=wrong):
            run_document(write_page(tmp_path / "page.md", f"residual {wrong}"), tmp_path / wrong, monkeypatch)


@pytest.mark.usefixtures("shipped_checkpoint")
def test_camera_page_runs(tmp_path, monkeypatch):
    run_document(REPOSITORY / "docs" / "camera.md", tmp_path, monkeypatch)
    document = json.loads((tmp_path / "out" / "person.pose.json").read_text())
    assert "joints_world" in document["people"][0]


@pytest.mark.usefixtures("shipped_checkpoint")
def test_people_page_runs(tmp_path, monkeypatch):
    run_document(REPOSITORY / "docs" / "people.md", tmp_path, monkeypatch)
    assert (tmp_path / "out" / "person.pose.npz").is_file()
