"""`jointdetr view`: what it writes and opens, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from jointdetr.cli import app
from jointdetr.motion import PoseMotion, motion_rows
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.visualization import write_poses


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["view", *(str(argument) for argument in arguments)])


@pytest.fixture
def film(tmp_path: Path) -> list[PoseMotion]:
    joints = np.random.default_rng(0).normal(0, 300, (3, 17, 3))
    joints[1, 4] = np.nan
    return [PoseMotion(HUMAN36M, [0.0, 0.04, 0.08], joints, np.isfinite(joints).all(-1))]


@pytest.mark.parametrize("suffix", [".json", ".npz", ".parquet"])
def test_writes_a_page_that_fetches_nothing(suffix, film, tmp_path, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda url: pytest.fail("opened a browser"))
    write_poses(motion_rows(film), tmp_path / f"film{suffix}", HUMAN36M)
    result = run(tmp_path / f"film{suffix}", "--output", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "1 person, 3 frames" in result.stdout
    page = (tmp_path / "page.html").read_text()
    assert "right_ankle" in page
    assert "<script src" not in page
    assert "<link" not in page


def test_without_an_output_it_opens_a_page_beside_the_poses(film, tmp_path, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    write_poses(motion_rows(film), tmp_path / "film.json", HUMAN36M)
    assert run(tmp_path / "film.json").exit_code == 0
    assert opened == [(tmp_path / "film.html").as_uri()]
    assert (tmp_path / "film.html").is_file()


def test_angles_are_a_figure_or_a_table(film, tmp_path, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    write_poses(motion_rows(film), tmp_path / "film.json", HUMAN36M)
    result = run(tmp_path / "film.json", "--angles")
    assert result.exit_code == 0, result.output
    assert "joint angles of 1 person, 3 frames" in result.stdout
    assert opened == [(tmp_path / "film.angles.png").as_uri()]
    assert Image.open(tmp_path / "film.angles.png").size == (1200, 760)
    assert run(tmp_path / "film.json", "--angles", "--output", tmp_path / "table.csv").exit_code == 0
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 4
    assert len(opened) == 1


def test_angles_of_several_people_are_a_figure_each(film, tmp_path):
    write_poses(motion_rows([*film, replace(film[0], person=2)]), tmp_path / "film.json", HUMAN36M)
    result = run(tmp_path / "film.json", "--angles", "--output", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.person1.png", "a.person3.png"]
    refused = run(tmp_path / "film.json", "--angles", "--output", tmp_path / "a.xyz")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)


def test_on_the_floor_says_what_it_took(film, tmp_path):
    placed = replace(film[0], joints=np.nan_to_num(film[0].joints), root_camera=np.full((3, 3), 3000.0))
    write_poses(motion_rows([placed]), tmp_path / "film.json", HUMAN36M)
    result = run(tmp_path / "film.json", "--floor", "--output", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("person 1 on the floor: turned upright by")
    write_poses(motion_rows(film), tmp_path / "film.json", HUMAN36M)
    refused = run(tmp_path / "film.json", "--floor", "--output", tmp_path / "page.html")
    assert refused.exit_code == 2
    assert "needs the root's place" in refused.stderr


def test_bad_files_are_one_line(film, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    write_poses(motion_rows(film), tmp_path / "film.json", HUMAN36M)
    cases = {
        (tmp_path / "absent.json",): "absent.json",
        (tmp_path / "broken.json",): "broken.json",
        (tmp_path / "film.json", "--output", tmp_path / "nowhere" / "page.html"): "nowhere",
    }
    for arguments, named in cases.items():
        result = run(*arguments)
        assert result.exit_code == 2
        (complaint,) = result.stderr.splitlines()
        assert complaint.startswith("jointdetr: ")
        assert named in complaint
