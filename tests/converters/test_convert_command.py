"""`jointdetr convert`: what it writes, prints and refuses."""

import builtins
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from source_files import write_human36m
from typer.testing import CliRunner, Result

from jointdetr.cli import app
from jointdetr.converters.conversion import make_converter
from jointdetr.converters.motion_files import Bvh
from jointdetr.data.loading import load_pose_dataset


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("human36m")
    write_human36m(folder, num_frames=20)
    return folder


def test_rows_are_written_counted_and_drawn(source: Path, tmp_path: Path) -> None:
    result = run("human36m", source, tmp_path / "out", "--step", 10, "--check", 3)
    assert result.exit_code == 0, result.output
    assert "train: 2 rows" in result.stdout
    assert "test: 2 rows" in result.stdout
    assert "3D falls on 2D within 0." in result.stdout
    pictures = sorted((tmp_path / "out" / "check").glob("*.png"))
    assert f"3 pictures to look at: {tmp_path / 'out' / 'check'}" in result.stdout
    assert len(pictures) == 3
    rows = load_pose_dataset(tmp_path / "out", "test")
    with Image.open(tmp_path / "out" / "check" / "test-S9_WalkingDog_1.54138969-000000.png") as drawn:
        assert drawn.size == rows[0]["image"].size
        difference = np.abs(np.asarray(drawn, float) - np.asarray(rows[0]["image"], float)).sum(axis=-1)
    ys, xs = np.nonzero(difference > 60)
    points = np.array(rows[0]["joints_2d"])
    assert np.abs(np.array([xs.min(), ys.min()]) - points.min(axis=0)).max() < 12  # the skeleton and nothing else
    assert np.abs(np.array([xs.max(), ys.max()]) - points.max(axis=0)).max() < 12


def test_skeletons_without_pictures_are_drawn_from_two_sides(tmp_path: Path) -> None:
    takes = {"S1": {"Walking": np.random.default_rng(0).normal(0, 0.2, (6, 17, 3))}}
    np.savez(tmp_path / "poses.npz", positions_3d=takes)
    result = run("human36m", tmp_path / "poses.npz", tmp_path / "out", "--check", 1)
    assert result.exit_code == 0, result.output
    assert "train: 2 rows" in result.stdout
    with Image.open(tmp_path / "out" / "check" / "train-S1_Walking-000000.png") as drawn:
        assert (np.asarray(drawn)[:, :480] < 200).any()
        assert (np.asarray(drawn)[:, 480:] < 200).any()


def test_recordings_that_fail_end_with_code_2_and_the_others_are_there(source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "source"
    write_human36m(mine, num_frames=6)
    film = mine / "S1" / "Videos" / "WalkingDog 1.54138969.mp4"
    film.unlink()
    result = run("human36m", mine, tmp_path / "out")
    assert result.exit_code == 2
    assert "1 recordings failed, the others are converted" in result.stderr
    assert f"the film {film} is missing" in result.stderr
    assert "the split 'train' has no row" in result.stderr
    assert len(load_pose_dataset(tmp_path / "out", "test")) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("human3m", "{source}", "{out}"), "there are converters for human36m, mpi-inf-3dhp"),
        (("human36m", "{source}/nowhere", "{out}"), "nowhere does not exist"),
        (("human36m", "{used}/poses.npy", "{out}"), "expected an npz file, got none"),
        (("human36m", "{source}", "{out}", "--split", "validation"), "`split` must be one of ['test', 'train']"),
        (("human36m", "{source}", "{out}", "--set", "unit=cm"), "options of human36m are images, step; got unit"),
        (
            ("bvh", "{source}", "{out}", "--set", "unit=yard"),
            "`unit` must be one of mm, cm, inch, m or its length in mm, got 'yard'",
        ),
        (("bvh", "{source}", "{out}", "--set", "unit"), "--set must have the form NAME=VALUE, got 'unit'"),
        (("bvh", "{source}", "{out}", "--set", "yup=3"), "options of bvh are step, unit, up, names; got yup"),
        (("coco", "{source}", "{out}", "--set", "fewest_joints=few"), "`fewest_joints` must be a whole number"),
        (("human36m", "{source}", "{used}"), "got a data folder of unknown origin"),
    ],
)
def test_mistakes_are_one_line(source: Path, tmp_path: Path, arguments: tuple, said: str) -> None:
    (tmp_path / "used" / "data").mkdir(parents=True)
    np.save(tmp_path / "used" / "poses.npy", np.zeros(3))
    places = {"source": source, "out": tmp_path / "out", "used": tmp_path / "used"}
    result = run(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2
    (complaint,) = (line for line in result.stderr.splitlines() if line.startswith("jointdetr: "))
    assert said in complaint


def test_what_one_data_set_alone_has_is_set_by_name(source: Path) -> None:
    bvh = make_converter("bvh", source, unit="m", up="z")
    assert (bvh.unit, bvh.up, bvh.step) == ("m", "z", Bvh.step)
    assert make_converter("coco", source, fewest_joints="3", names="names.json").fewest_joints == 3
    assert make_converter("coco", source, names="names.json").names == Path("names.json")
    assert make_converter("panoptic", source, cameras="00_16,00_30", step=3).cameras == ("00_16", "00_30")


def test_a_missing_reader_names_the_extra(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_cdflib(name: str, *arguments: object, **options: object) -> object:
        if name == "cdflib":
            raise ImportError("no cdflib")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_cdflib)
    result = run("human36m", source, tmp_path / "out")
    assert result.exit_code == 2
    assert 'CDF files need cdflib: pip install "jointdetr[convert]"' in result.stderr
