"""Cameras: matrices, guesses, files, lenses checked against OpenCV's projection, and what is refused."""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from jointdetr.camera_jointdetr import Camera, Distortion, camera_of_picture
from jointdetr.geometry_jointdetr import project

INTRINSICS = np.array([[1000.0, 0.0, 640.0], [0.0, 1010.0, 360.0], [0.0, 0.0, 1.0]])
LENSES = {
    "brown": Distortion("brown", (-0.28, 0.07, 0.001, -0.002, 0.01)),
    "rational": Distortion("brown", (0.3, -0.1, 0.001, -0.002, 0.01, 0.5, -0.05, 0.02)),
    "fisheye": Distortion("fisheye", (0.02, -0.01, 0.003, -0.001)),
}
QUARTER_TURN = [[0.0, -1.0, 0.0, 100.0], [1.0, 0.0, 0.0, -200.0], [0.0, 0.0, 1.0, 3000.0]]


def make_points() -> np.ndarray:
    """Points in space that such a camera sees, `(points, 3)` mm."""
    return np.random.default_rng(0).uniform([-1200, -700, 2000], [1200, 700, 4000], (40, 3))


@pytest.mark.parametrize("name", LENSES)
def test_lenses_are_those_of_opencv(name):
    camera = Camera(INTRINSICS, LENSES[name])
    project_cv = cv2.fisheye.projectPoints if name == "fisheye" else cv2.projectPoints
    coefficients = np.array(LENSES[name].coefficients)
    seen = project_cv(make_points()[:, None], np.zeros(3), np.zeros(3), INTRINSICS, coefficients)[0][:, 0]
    ideal = project(torch.from_numpy(make_points()), torch.from_numpy(INTRINSICS))
    assert np.abs(seen - ideal.numpy()).max() > 3  # these lenses do something
    torch.testing.assert_close(camera.distort(ideal), torch.from_numpy(seen), rtol=0, atol=1e-6)
    torch.testing.assert_close(camera.undistort(torch.from_numpy(seen)), ideal, rtol=0, atol=1e-4)


def test_points_that_no_ray_reaches_are_nan():
    camera = Camera(INTRINSICS, Distortion("brown", (-0.4, 0.0, 0.0, 0.0)))  # bends back at 0.913 focal lengths
    points = torch.tensor([[640.0, 360.0], [3000.0, 360.0], [torch.nan, 0.0]])
    assert camera.undistort(points).isfinite().all(dim=-1).tolist() == [True, False, False]
    assert camera.distort(points)[2].isnan().all()


def test_an_ideal_lens_needs_no_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    points = torch.rand(3, 5, 2)
    assert torch.equal(Camera(INTRINSICS).undistort(points), points)
    with pytest.raises(ImportError, match=r"pip install \"jointdetr\[camera\]\""):
        Camera(INTRINSICS, LENSES["brown"]).undistort(points)


def test_the_field_of_view_spans_the_longer_side():
    for size in ((1200, 800), (800, 1200)):
        camera = Camera.from_field_of_view(90, size)
        assert camera.guessed
        np.testing.assert_allclose(camera.intrinsics, [[600, 0, size[0] / 2], [0, 600, size[1] / 2], [0, 0, 1]])
    assert not Camera.from_focal_px(600, (1200, 800)).guessed


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, (True, 87)),  # nothing is known: a guess of 60 degrees
        ({"intrinsics": None, "field_of_view": None}, (True, 87)),
        ({"intrinsics": INTRINSICS, "field_of_view": 60}, (False, 1000)),  # a guess is only for who knows nothing
        ({"field_of_view": 90, "distortion": "fisheye:0,0,0,0"}, (True, 50)),
        ({"camera": Camera(INTRINSICS)}, (False, 1000)),
    ],
)
def test_a_camera_from_what_is_known(known, expected):
    camera = camera_of_picture((100, 80), known)
    assert (camera.guessed, round(camera.intrinsics[0, 0])) == expected


def test_a_camera_file(tmp_path: Path):
    path = tmp_path / "camera.json"
    lens = {"model": "brown", "coefficients": [-0.2, 0.1, 0, 0, 0.05]}
    extrinsics = [*QUARTER_TURN, [0, 0, 0, 1]]
    content = {"intrinsics": INTRINSICS.tolist(), "distortion": lens, "extrinsics": extrinsics}
    path.write_text(json.dumps(content))
    camera = camera_of_picture((1280, 720), {"camera": path})
    assert (
        camera.distortion
        == Distortion("brown", (-0.2, 0.1, 0, 0, 0.05))
        == Distortion.from_value("brown:-0.2,0.1,0,0,0.05")
    )
    assert camera.describe() == content | {"intrinsics_guessed": False, "extrinsics": QUARTER_TURN}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid"),
        ("[]", "expected `intrinsics`.*got list"),
        ('{"matrix": 1}', "expected `intrinsics`.*matrix"),
        ('{"intrinsics": [[1, 0], [0, 1]]}', "3x3"),
        ('{"intrinsics": [[NaN, 0, 0], [0, 1, 0], [0, 0, 1]]}', "finite"),
    ],
)
def test_a_bad_camera_file_is_named(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)bad.json.*{message}"):
        Camera.from_json(path)


def spoil(row: int, column: int, value: float) -> np.ndarray:
    matrix = INTRINSICS.copy()
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"intrinsics": spoil(0, 0, 0.0)}, "`intrinsics`.*positive focal lengths"),
        ({"intrinsics": spoil(1, 1, -5.0)}, "`intrinsics`.*positive focal lengths"),
        ({"intrinsics": spoil(1, 0, 5000.0) + spoil(0, 1, 5000.0) - INTRINSICS}, "`intrinsics`"),  # singular
        ({"intrinsics": spoil(0, 2, np.nan)}, "`intrinsics` must be finite"),
        ({"intrinsics": spoil(2, 2, 2.0)}, r"\[0, 0, 1\]"),
        ({"intrinsics": np.eye(4)}, "3x3"),
        ({"intrinsics": "K"}, "array of numbers"),
        ({"field_of_view": 0}, "between 0 and 180"),
        ({"field_of_view": float("nan")}, "between 0 and 180"),
        ({"field_of_view": "60"}, "a number between 0 and 180 degrees, got '60'"),
        ({"camera": INTRINSICS}, "a Camera or the path of its JSON file, got ndarray"),
        ({"distortion": LENSES["brown"]}, "must come with `intrinsics` or `field_of_view`"),
        ({"camera": Camera(INTRINSICS), "extrinsics": QUARTER_TURN}, "`camera` must be given alone"),
        ({"intrinsics": INTRINSICS, "extrinsics": np.eye(3)}, "`extrinsics` must be a finite 3x4"),
        ({"intrinsics": INTRINSICS, "extrinsics": 2 * np.array(QUARTER_TURN)}, "must begin with a rotation"),
        ({"intrinsics": INTRINSICS, "extrinsics": np.diag([1.0, 1, -1, 1])}, "must begin with a rotation"),  # mirrors
        ({"intrinsics": spoil(0, 1, 3.0), "distortion": LENSES["brown"]}, "no skew beside `distortion`"),
        ({"intrinsics": INTRINSICS, "distortion": "pinhole:1,2,3,4"}, "brown, fisheye, got 'pinhole'"),
        ({"intrinsics": INTRINSICS, "distortion": "fisheye:1,2,3"}, "must have 4 finite coefficients"),
        ({"intrinsics": INTRINSICS, "distortion": "brown:1,2,3,inf"}, "finite coefficients"),
        ({"intrinsics": INTRINSICS, "distortion": "brown:1,2,3,x"}, "could not convert"),
        ({"intrinsics": INTRINSICS, "distortion": {"model": "brown"}}, "`model` and its `coefficients`"),
    ],
)
def test_what_is_no_camera_is_refused(known: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        camera_of_picture((1280, 720), known)
