"""People found by real object-detection pipelines of transformers, untrained but whole, and by one that is known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
)

from jointdetr.people_jointdetr import detect_people, load_detector
from jointdetr.search_jointdetr import box_overlaps

LABELS = {"id2label": {0: "cat", 1: "Person"}, "label2id": {"cat": 0, "Person": 1}}
SIZE = {"height": 64, "width": 64}
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
