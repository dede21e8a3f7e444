"""People found by real object-detection pipelines of transformers, untrained but whole, and by one that is known."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy import ndimage
from transformers import (
    AutoConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
    pipeline,
)

import jointdetr  # noqa: F401  makes the task known
from jointdetr.people import PeopleRequest, SearchLimits, Sightings, find_people, search_people
from jointdetr.people_jointdetr import (
    best_apart,
    body_box,
    box_overlaps,
    clip_box,
    detect_people,
    following_of,
    load_detector,
    look_askew,
    search_windows,
    shared_areas,
)

LABELS = {"id2label": {0: "cat", 1: "Person"}, "label2id": {"cat": 0, "Person": 1}}
SIZE = {"height": 64, "width": 64}
SQUARE = (100, 100)
EVERYTHING = 0.0


def photo(seed: int, size: tuple[int, int] = (120, 100)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def save_yolos(folder: Path) -> None:
    config = YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[64, 64],
        num_detection_tokens=10,
        **LABELS,
    )
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessor(size=SIZE).save_pretrained(folder)


def save_rt_detr(folder: Path) -> None:
    sizes = [8, 16, 16, 16]
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=sizes,
        depths=[1] * 4,
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=sizes[1:],
        decoder_in_channels=sizes[1:],
        encoder_hidden_dim=16,
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_layers=1,
        num_queries=10,
        num_denoising=0,
        **LABELS,
    )
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessor(size=SIZE).save_pretrained(folder)


@pytest.fixture(scope="module", params=[save_yolos, save_rt_detr], ids=["yolos", "rt_detr"])
def detector_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("detector")
    request.param(folder)
    things = load_detector(folder, device="cpu")(photo(0), threshold=EVERYTHING)
    if sum(thing["label"] == "Person" for thing in things) < len(things) / 2:  # untrained, it mostly sees one class
        config = AutoConfig.from_pretrained(folder)
        config.id2label = {0: "Person", 1: "cat"}
        config.save_pretrained(folder)
    return folder


def test_any_detector_of_transformers_finds_people_in_order(detector_folder):
    images = [photo(0), photo(1, (300, 200))]
    detector = load_detector(str(detector_folder), device="cpu")
    found = detect_people(detector, images, EVERYTHING)
    assert found == detect_people(detector_folder, images, EVERYTHING)
    for image, boxes in zip(images, found, strict=True):
        things = detector(image, threshold=EVERYTHING)
        assert 0 < len(boxes) <= sum(thing["label"] == "Person" for thing in things)
        assert boxes == sorted(boxes)
        x, y, width, height = np.array(boxes).T
        assert (x >= 0).all() and (x + width <= image.width).all() and (width > 0).all()
        assert (y >= 0).all() and (y + height <= image.height).all() and (height > 0).all()
    assert detect_people(detector, images, 1.0) == [[], []]
    assert detect_people(detector, []) == []


class KnownDetector:
    """Says what an object-detection pipeline would say, the same about every picture."""

    def __init__(self, *things: tuple[str, float, tuple[int, int, int, int]], labels: tuple[str, ...] = ("person",)):
        self.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(labels))))
        self.things = things

    def __call__(self, images: list[Image.Image], threshold: float) -> list[list[dict]]:
        corners = ("xmin", "ymin", "xmax", "ymax")
        return [
            [
                {"score": score, "label": label, "box": dict(zip(corners, box, strict=True))}
                for label, score, box in self.things
                if score > threshold
            ]
            for _ in images
        ]


def test_boxes_are_cut_sorted_and_only_of_people():
    detector = KnownDetector(
        ("person", 0.6, (60, 10, 140, 90)),
        ("person", 0.9, (-5, 20, 30, 120)),
        ("person", 0.4, (10, 10, 20, 20)),
        ("dog", 0.9, (10, 10, 20, 20)),
        ("person", 0.9, (130, 10, 150, 90)),  # beyond the right edge
        ("person", 0.9, (50, 50, 50, 60)),  # empty
        labels=("dog", "person"),
    )
    assert detect_people(detector, [photo(0)]) == [[[0, 20, 30, 80], [60, 10, 60, 80]]]


def test_overlaps_by_hand():
    boxes = np.array([[0, 0, 2, 2]]), np.array([[1, 0, 2, 2], [0, 0, 2, 2], [5, 5, 1, 1]])

    np.testing.assert_allclose(box_overlaps(*boxes), [[1 / 3, 1, 0]])


def test_a_person_found_twice_is_one_and_people_close_together_are_two():
    detector = KnownDetector(
        ("person", 0.7, (11, 10, 50, 90)),
        ("person", 0.9, (10, 10, 50, 91)),  # the same person
        ("person", 0.8, (16, 10, 56, 90)),  # right beside: they share three quarters
        ("chair", 0.95, (10, 10, 50, 91)),
        labels=("person", "chair"),
    )
    assert detect_people(detector, [photo(0)]) == [[[10, 10, 40, 81], [16, 10, 40, 80]]]


def test_what_cannot_detect_people_is_refused(tiny_model_folder, tmp_path):
    with pytest.raises(ValueError, match='label "person", got the labels cat, dog'):
        detect_people(KnownDetector(labels=("dog", "cat")), [photo(0)])
    with pytest.raises(ValueError, match="threshold.*got 1.5"):
        detect_people(KnownDetector(), [photo(0)], threshold=1.5)
    with pytest.raises(TypeError, match="object-detection pipeline.*got int"):
        detect_people(3, [photo(0)])
    with pytest.raises(OSError, match="no-such-detector"):
        detect_people(tmp_path / "no-such-detector", [photo(0)])
    with pytest.raises(ValueError, match="JointDetrConfig|object-detection"):
        load_detector(tiny_model_folder)


CORNERS = np.array([[x, y] for x in (0, 0.5, 1) for y in (0, 0.5, 1)])  # and what lies between them


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
        sightings = Sightings(np.stack(points), np.stack(scores), image.size)
        if self.knows_who_lies or second_look:
            return sightings
        lying = np.array([width > height for _, _, width, height in sightings.boxes()])
        return Sightings(sightings.points, np.where(lying[:, None], 0.3, sightings.scores), image.size)

    def see(self, pixels: np.ndarray, box: list[float]) -> tuple[np.ndarray, np.ndarray]:
        x, y, width, height = padded(box)
        left, top, right, bottom = (max(round(v), 0) for v in (x, y, x + width, y + height))
        parts, count = ndimage.label(pixels[top:bottom, left:right] > 128)
        if not count:
            middle, extent = np.array([x + width / 2, y + height / 2]), max(box[2:]) / 1.16
            return middle + (CORNERS - 0.5) * extent, np.full(len(CORNERS), self.imagined_sureness)
        rows, columns = ndimage.find_objects(parts)[np.argmax(np.bincount(parts.ravel())[1:])]
        low = np.array([columns.start + left, rows.start + top])
        extent = np.array([columns.stop + left, rows.stop + top]) - low
        is_cut = (low <= [left, top]).any() or (low + extent >= [right, bottom]).any()
        return low + CORNERS * extent, np.full(
            len(CORNERS), 1.2 * max(extent / [width, height]) * (0.3 if is_cut else 1.0)
        )


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
    assert found == pytest.approx(clip_box(body, image.size), abs=2 * factor)
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


def test_sureness_and_expected_errors_are_means_over_the_joints_in_the_picture():
    points, scores = np.zeros((2, 6, 2)), np.array([[1.0, 0.5] * 3, [1.0] * 6])
    assert Sightings(points, scores, SQUARE).sureness() == pytest.approx([0.75, 1.0])
    assert Sightings(points, scores, SQUARE).errors_mm() == pytest.approx([0.0, 0.0])
    visible, sigmas = np.array([[1.0] * 6, [0.2, 1.0] * 3]), np.array([[100.0] * 6, [100.0] * 5 + [400.0]])
    assert Sightings(points, scores, SQUARE, visible, sigmas).sureness() == pytest.approx([0.75, 0.6])
    points[1, 5] = 101.0
    scores[1, 5] = np.nan  # nothing is said of what is beyond
    assert Sightings(points, scores, SQUARE, visible, sigmas).sureness() == pytest.approx([0.75, 0.52])
    assert Sightings(points, scores, SQUARE, visible, sigmas).errors_mm() == pytest.approx([100.0, 100.0])
    points[1, 3:] = -1.0  # three joints are nobody
    seen = Sightings(points, scores, SQUARE, visible, sigmas)
    assert seen.sureness() == pytest.approx([0.75, 0.0])
    assert seen.inside.tolist() == [[True] * 6, [True] * 3 + [False] * 3]


def test_the_box_of_a_body_ends_with_the_picture():
    points = np.array([[[10.0, 20.0], [60.0, 220.0]], [[-40.0, -30.0], [-20.0, -10.0]]])
    boxes = Sightings(points, np.ones((2, 2)), SQUARE).boxes()
    assert boxes[0] == pytest.approx([0.0, 4.0, 76.0, 96.0])
    assert boxes[1] == pytest.approx([0.0, 0.0, 1.0, 1.0])  # at the edge, so that there is something to look at


def test_the_surer_of_two_that_overlap_is_kept():
    points = np.stack([CORNERS * 10, CORNERS * 10 + 1, CORNERS * 10 + 30])
    seen = Sightings(points, np.array([[0.5] * 9, [0.9] * 9, [0.7] * 9]), SQUARE)
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
