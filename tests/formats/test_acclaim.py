"""Acclaim's files are read, and refused where they are broken; rotations are those made by hand."""

from pathlib import Path

import numpy as np
import pytest
from acclaim_examples import FIGURE, MOTION, asf_text, write_recording

from jointdetr.formats.acclaim import read_amc, read_asf, world_rotations


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path)


def about(axis: str, degrees: float) -> np.ndarray:
    """Rotation about one of the fixed axes, written out."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = np.eye(3)
    rotation[[first, second], [first, second]] = cosine
    rotation[second, first], rotation[first, second] = sine, -sine
    return rotation


def test_the_skeleton_is_read(recording: Path) -> None:
    skeleton = read_asf(recording / "figure.asf")
    assert skeleton.names[0] == "root" and set(skeleton.names[1:]) == set(FIGURE)
    knee = skeleton.names.index("ltibia")
    assert skeleton.names[skeleton.parents[knee]] == "lfemur"
    assert skeleton.channels[0] == ("tx", "ty", "tz", "rx", "ry", "rz") and skeleton.channels[knee] == ("rx",)
    assert skeleton.directions[knee].tolist() == [0, -1, 0]


def test_frames_are_read_and_thinned_out(recording: Path) -> None:
    motion = read_amc(recording / "bend.amc")
    assert motion["ltibia"].tolist() == [[0.0], [90.0]]
    assert motion["root"][1].tolist() == [1, 2, 3, 0, 0, 0]
    assert read_amc(recording / "bend.amc", stride=2)["ltibia"].tolist() == [[0.0]]


def test_rotations_are_about_a_bones_own_axes_and_carried_down(tmp_path: Path) -> None:
    text = asf_text().replace(
        "name ltibia\n  direction 0 -1 0\n  length 5\n  axis 0 0 0",
        "name ltibia\n  direction 0 -1 0\n  length 5\n  axis 0 0 90",
    )
    (tmp_path / "figure.asf").write_text(text)
    skeleton = read_asf(tmp_path / "figure.asf")
    motion = {"root": np.array([[0, 0, 0, 10.0, 20.0, 30.0]]), "ltibia": np.array([[40.0]])}
    turned = world_rotations(skeleton, motion)[0]
    x, y, z = (about(axis, degrees) for axis, degrees in zip("xyz", (10.0, 20.0, 30.0), strict=True))
    root = z @ y @ x
    # The bone's x axis is turned by 90 degrees about z: it lies along y.
    knee = root @ about("y", 40.0)
    np.testing.assert_allclose(turned[skeleton.names.index("head")], root, atol=1e-12)
    np.testing.assert_allclose(turned[skeleton.names.index("lfoot")], knee, atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":hierarchy", ":family", "expected a section `:hierarchy`"),
        ("order TX", "sequence TX", "has no line `order`"),
        ("direction 0 1 0", "direction 0 up 0", r"figure.asf, line 10: expected 3 finite numbers, got '0 up 0'"),
        ("direction 0 1 0", "direction 0 nan 0", r"line 10: expected 3 finite numbers"),
        ("axis 0 0 0 XYZ", "axis 0 0 0 ZYX", r"line 12: expected an axis in the order XYZ, got \['ZYX'\]"),
        ("dof rx", "dof tilt", r"line 13: expected channels such as rx or ty, got \['tilt'\]"),
        ("root lowerback", "root tail", "`tail` is not a bone"),
        ("root lowerback", "lfemur lowerback", "`lfemur` has children but no parent yet"),
    ],
)
def test_broken_skeletons_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in asf_text()
    (tmp_path / "figure.asf").write_text(asf_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_asf(tmp_path / "figure.asf")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":DEGREES", ":RADIANS", r"bend.amc, line 2: expected angles in degrees"),
        ("ltibia 90", "ltibia bent", r"line 9: expected 1 finite numbers, got 'bent'"),
        ("ltibia 90\n", "", r"bend.amc: frame 2 and the first one differ in \['ltibia'\]"),
        ("ltibia 90", "ltibia 90 1", r"bend.amc: frame 2 and the first one differ in \['ltibia'\]"),
        ("1\nroot", "root", r"line 3: expected a frame's number before `root`"),
        (MOTION, ":DEGREES\n", "expected at least one frame with bones, found none"),
    ],
)
def test_broken_motions_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MOTION
    (tmp_path / "bend.amc").write_text(MOTION.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_amc(tmp_path / "bend.amc")


def test_a_motion_of_another_skeleton_is_refused(recording: Path) -> None:
    skeleton, motion = read_asf(recording / "figure.asf"), read_amc(recording / "bend.amc")
    with pytest.raises(ValueError, match=r"unknown bones \['tail'\]"):
        world_rotations(skeleton, motion | {"tail": np.zeros((2, 1))})
    with pytest.raises(ValueError, match="`ltibia` must have the channels"):
        world_rotations(skeleton, motion | {"ltibia": np.zeros((2, 3))})
