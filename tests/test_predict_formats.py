"""`jointdetr predict --format`: every kind of file, and what is said about it."""

from pathlib import Path

from PIL import Image
from pyarrow.parquet import read_schema
from typer.testing import CliRunner

from jointdetr.cli import app
from jointdetr.motion import load_motions

FORMATS = ("json", "npz", "csv", "bvh", "glb", "trc", "angles.csv", "angles.parquet")


def test_every_format_is_written_as_what_it_is_called(tiny_model_folder: Path, tmp_path: Path):
    picture = tmp_path / "person.png"
    Image.linear_gradient("L").resize((120, 160)).convert("RGB").save(picture)
    options = [word for kind in FORMATS for word in ("--format", kind)]
    arguments = ["predict", str(picture), "--model", str(tiny_model_folder), "--output", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, "--threshold", "0", "--people", "whole", *options])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "see person.pose.png and person.pose.json and" in result.stdout
    files = {kind: tmp_path / f"person.pose.{kind}" for kind in FORMATS}
    assert len(load_motions(files["json"])) == len(load_motions(files["npz"])) == 1
    assert files["csv"].read_text().startswith("frame,time_s,person,joint,")
    assert files["bvh"].read_text().startswith("HIERARCHY\nROOT pelvis")
    assert files["trc"].read_text().startswith("PathFileType\t4\t(X/Y/Z)\tperson.pose.trc")
    assert files["angles.csv"].read_text().startswith("frame,time_s,person,right_hip_flexion_deg,")
    assert read_schema(files["angles.parquet"]).names[3] == "right_hip_flexion_deg"
    assert files["glb"].read_bytes()[:4] == b"glTF"
    assert "person.pose.bvh: constant bone lengths move joints by" in result.stdout


def test_the_floor_needs_a_camera(tmp_path: Path):
    result = CliRunner().invoke(app, ["predict", "person.png", "--floor", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "--floor needs the camera" in result.output
