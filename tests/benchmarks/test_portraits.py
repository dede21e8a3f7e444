"""People cut out of pictures, and what is right and what invented of them."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy.peer_mediapipe import HIPS, SHOULDERS, Answer, Person
from benchmarks.accuracy.portraits import CUTS, LEGS, measure, portrait

# hips, knees, ankles, shoulders, elbows, wrists of a person who stands, left and right in turn
X = [110, 90, 112, 88, 114, 86, 120, 80, 130, 70, 135, 65]
Y = [200, 200, 260, 260, 320, 320, 100, 100, 140, 140, 180, 180]
STANDING = np.stack([X, Y], axis=-1).astype(float)


def person(points: np.ndarray) -> Person:
    return Person(Image.new("RGB", (300, 400)), [60.0, 60.0, 80.0, 280.0], points, np.full((12, 3), np.nan))


@pytest.mark.parametrize(("cut", "height"), [("shoulders", 85), ("elbows", 125), ("hips", 185)])
def test_a_portrait_ends_below_what_it_shows(cut, height):
    shown = portrait(person(STANDING), CUTS[cut])
    scale = np.ptp(shown.points[:, 1]) / np.ptp(STANDING[:, 1])
    assert max(shown.image.size) == 256
    assert shown.image.height / scale == pytest.approx(
        height, abs=2
    )  # from 70 above the shoulders to 15 below the last
    inside = (shown.points[:, 1] < shown.image.height).tolist()
    assert inside == (STANDING[:, 1] < 30 + height).tolist()


def test_who_lies_or_is_not_labelled_is_left_out():
    assert portrait(person(STANDING[:, ::-1].copy()), SHOULDERS) is None
    unknown = STANDING.copy()
    unknown[HIPS] = np.nan
    assert portrait(person(unknown), CUTS["shoulders"]) is None


def test_measures_by_hand():
    cut = portrait(person(STANDING), CUTS["elbows"])
    torso = np.linalg.norm(cut.points[SHOULDERS].mean(0) - cut.points[HIPS].mean(0))
    exact, off = cut.points.copy(), cut.points.copy()
    off[SHOULDERS[0]] += [0.21 * torso, 0.0]  # one of four joints in the picture
    off[LEGS[0], 1] = 10.0  # one of four that are beyond
    numbers = measure([cut] * 4, [Answer(exact), Answer(off), Answer(exact), Answer()])
    assert numbers == pytest.approx({"PCK": 100 * (4 + 3 + 4) / 16, "invented": 100 / 12, "nobody found": 25.0})
