"""The pages about cameras and about several people keep their promises."""

import json

import pytest
from documents import REPOSITORY, run_document


@pytest.mark.usefixtures("shipped_checkpoint")
def test_camera_page_runs(tmp_path, monkeypatch):
    run_document(REPOSITORY / "docs" / "camera.md", tmp_path, monkeypatch)
    document = json.loads((tmp_path / "out" / "person.pose.json").read_text())
    assert "joints_world" in document["people"][0]


@pytest.mark.usefixtures("shipped_checkpoint")
def test_people_page_runs(tmp_path, monkeypatch):
    run_document(REPOSITORY / "docs" / "people.md", tmp_path, monkeypatch)
    assert (tmp_path / "out" / "person.pose.npz").is_file()
