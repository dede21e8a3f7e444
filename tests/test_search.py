"""People found by the pose network itself: with a network that sees squares, and with the shipped one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage
from transformers import pipeline

import jointdetr  # noqa: F401  makes the task known
from jointdetr.people import PeopleRequest, SearchLimits, Sightings, find_people, search_people
from jointdetr.search_jointdetr import (
    best_apart,
    body_box,
    box_overlaps,
    following_of,
    look_askew,
    search_windows,
    shared_areas,
)

CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)


def squares(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", size)
    for x, y, width, height in boxes:
        ImageDraw.Draw(image).rectangle((x, y, x + width - 1, y + height - 1), fill="white")
    return image


def padded(box: list[float]) -> list[float]:
    """What the network is shown of a box: a square around it, 1.25 times as large."""
    x, y, width, height = box
    edge = 1.25 * max(width, height)
    return [x + (width - edge) / 2, y + (height - edge) / 2, edge, edge]


class SquareSeer:
    """A network for which a white rectangle is a person; where it is shown none, it imagines one in the middle.

    It is surer the more of its window the rectangle fills, as a network is that was trained on such windows, and less
    sure where the window cuts it off. Of several it sees the largest.
    """

    def __init__(self, imagined_sureness: float = 0.0, knows_who_lies: bool = True):
        self.imagined_sureness, self.looks, self.knows_who_lies = imagined_sureness, [], knows_who_lies

    def __call__(self, image: Image.Image, boxes: list[list[float]], second_look: bool = False) -> Sightings:
        self.looks.append((image.size, boxes))
        points, scores = zip(*(self.see(np.asarray(image.convert("L")), box) for box in boxes), strict=True)
        sightings = Sightings(np.stack(points), np.stack(scores))
        if self.knows_who_lies or second_look:
            return sightings
        lying = np.array([width > height for _, _, width, height in sightings.boxes()])
        return Sightings(sightings.points, np.where(lying[:, None], 0.3, sightings.scores))

    def see(self, pixels: np.ndarray, box: list[float]) -> tuple[np.ndarray, np.ndarray]:
        x, y, width, height = padded(box)
        left, top, right, bottom = (max(round(v), 0) for v in (x, y, x + width, y + height))
        parts, count = ndimage.label(pixels[top:bottom, left:right] > 128)
        if not count:
            middle, extent = np.array([x + width / 2, y + height / 2]), max(box[2:]) / 1.16
            return middle + (CORNERS - 0.5) * extent, np.full(4, self.imagined_sureness)
        rows, columns = ndimage.find_objects(parts)[np.argmax(np.bincount(parts.ravel())[1:])]
        low = np.array([columns.start + left, rows.start + top])
        extent = np.array([columns.stop + left, rows.stop + top]) - low
        is_cut = (low <= [left, top]).any() or (low + extent >= [right, bottom]).any()
        return low + CORNERS * extent, np.full(4, 1.2 * max(extent / [width, height]) * (0.3 if is_cut else 1.0))


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1280, 720), (300, 300), (64, 4000)])
def test_windows_lie_all_over_the_picture_and_within(size):
    covered = np.zeros(size[::-1], int)
    windows = search_windows(size)
    for x, y, width, height in windows:
        assert x >= 0 and y >= 0 and x + width <= size[0] + 1e-6 and y + height <= size[1] + 1e-6
        covered[round(y) : round(y + height), round(x) : round(x + width)] += 1
    assert len(windows) <= 24
    if max(size) < 3 * min(size):
        assert covered.min() >= 1 and len(windows) <= 11


@pytest.mark.parametrize("factor", [1, 6])
@pytest.mark.parametrize("box", [(250, 60, 130, 380), (500, 300, 40, 100), (20, 10, 300, 90)])
def test_a_person_is_found_wherever_it_is(box, factor):
    """Also in a large picture, which is looked at in a smaller copy."""
    image = squares((640, 480), box).resize((640 * factor, 480 * factor), Image.Resampling.NEAREST)
    seer = SquareSeer()
    (found,) = search_people(image, seer)
    body = body_box((np.array(box[:2]) + CORNERS * box[2:]) * factor)
    assert found == pytest.approx(body, abs=2 * factor)
    assert sum(len(boxes) for _, boxes in seer.looks) <= 18
    assert all(min(size) < 1600 for size, _ in seer.looks)


def test_people_who_stand_apart_come_from_left_to_right():
    found = search_people(squares((640, 480), (480, 60, 120, 400), (60, 80, 120, 380)), SquareSeer())
    assert [round(box[0] + box[2] / 2, -1) for box in found] == [120, 540]


def test_who_lies_is_judged_turned_upright():
    """By a network that is unsure of people who lie until it looks at them a second time."""
    found = search_people(squares((640, 480), (120, 200, 380, 120)), SquareSeer(knows_who_lies=False))
    assert [[round(box[0] + box[2] / 2, -1), round(box[1] + box[3] / 2, -1)] for box in found] == [[310, 260]]


def test_nobody_is_an_empty_list():
    assert search_people(squares((640, 480)), SquareSeer()) == []


def test_what_moves_along_with_the_window_is_imagined():
    """However sure the network is."""
    sure = SquareSeer(imagined_sureness=1.0)
    empty, there = squares((640, 480)), squares((640, 480), (250, 60, 130, 380))
    assert search_people(empty, sure) == []
    assert search_people(empty, sure, SearchLimits(following=np.inf))
    for image, moved in ((empty, 1.0), (there, 0.0)):
        near = sure(image, [[200.0, 50.0, 400.0, 400.0]])
        assert following_of(near, look_askew(image, sure, near)) == pytest.approx([moved], abs=0.02)


def test_sureness_is_of_scores_and_expected_errors():
    points, scores = np.zeros((2, 2, 2)), np.array([[1.0, 0.5], [1.0, 1.0]])
    assert Sightings(points, scores).sureness() == pytest.approx([0.75, 1.0])
    visible = np.array([[1.0, 1.0], [0.2, 1.0]])
    assert Sightings(points, scores, visible).sureness() == pytest.approx([0.75, 0.6])


def test_the_surer_of_two_that_overlap_is_kept():
    points = np.stack([CORNERS * 10, CORNERS * 10 + 1, CORNERS * 10 + 30])
    seen = Sightings(points, np.array([[0.5] * 4, [0.9] * 4, [0.7] * 4]))
    assert best_apart(seen, np.ones(3, bool), box_overlaps, 0.3) == [1, 2]
    assert best_apart(seen, np.array([True, False, True]), box_overlaps, 0.3) == [2, 0]


def test_a_part_shares_all_of_itself():
    whole, part = np.array([[0, 0, 10, 10]], float), np.array([[2, 2, 3, 3], [20, 0, 5, 5]], float)
    np.testing.assert_allclose(shared_areas(whole, part), [[1, 0]])


def test_given_boxes_go_first_then_the_detector_then_the_search(monkeypatch):
    image, seer = squares((640, 480), (250, 60, 130, 380)), SquareSeer()
    monkeypatch.setattr("jointdetr.people_jointdetr.detect_people", lambda *arguments: [[[1, 2, 3, 4]]])
    assert find_people(image, PeopleRequest(boxes=[[5, 6, 7, 8]], detector=object()), seer) == [[5, 6, 7, 8]]
    assert find_people(image, PeopleRequest(detector=object()), seer) == [[1, 2, 3, 4]]
    assert find_people(image, PeopleRequest(people="whole"), seer) is None
    assert not seer.looks
    assert len(find_people(image, PeopleRequest(), seer)) == 1
    with pytest.raises(ValueError, match='`people` must be "search" beside `boxes`, got "whole"'):
        PeopleRequest(boxes=[], people="whole")


@pytest.fixture(scope="module")
def estimate(shipped_checkpoint: Path) -> Callable:
    return pipeline("pose-estimation-3d", model=str(shipped_checkpoint), device="cpu")


def test_the_shipped_network_finds_the_person_of_the_documentation(estimate):
    image = Image.open(Path(__file__).parents[1] / "docs" / "images" / "person.jpg").convert("RGB")
    wide = Image.new("RGB", (900, 640), (90, 110, 90))
    wide.paste(image, (350, 100))
    for picture, label in ((image, [113, 119, 199, 373]), (wide, [463, 219, 199, 373])):
        (person,) = estimate(picture)
        assert box_overlaps(np.array([person["box"]]), np.array([label], float)).item() > 0.5
        assert person["intrinsics_guessed"]


def test_the_shipped_network_finds_nobody_where_nobody_is(estimate):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    stripes = Image.fromarray(np.tile(rng.integers(0, 256, (8, 3), dtype=np.uint8).repeat(40, 0)[None], (240, 1, 1)))
    for picture in (Image.new("RGB", (320, 240)), Image.new("RGB", (240, 320), "beige"), noise, stripes):
        assert estimate(picture) == []


@pytest.mark.parametrize("name", ["S1/S1_Directions_1.54138969", "S7/S7_Greeting.55011271"])
def test_the_shipped_network_finds_people_in_photographs(estimate, real_data, name):
    """Who stands upright in a studio: the box of the body is known to a few pixels from looking."""
    labels = {"S1": [390, 260, 170, 470], "S7": [285, 195, 170, 520]}
    (path,) = (real_data / "human36m" / name).glob("*.jpg")
    people = estimate(str(path))
    assert people
    boxes = np.array([person["box"] for person in people])
    assert box_overlaps(boxes, np.array([labels[name[:2]]], float)).max() > 0.5
