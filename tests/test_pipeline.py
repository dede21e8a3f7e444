"""pipeline("pose-estimation-3d"): pictures and boxes in, JSON-ready people out."""

import json
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Pipeline, pipeline
from transformers.utils import ModelOutput

from jointdetr import HUMAN36M, JointDetrForPoseEstimation, JointDetrImageProcessor, JointDetrPipeline
from jointdetr.modeling_jointdetr import JointDetrPoseEstimationOutput
from jointdetr.pipeline_jointdetr import _Views

INTRINSICS = [[500.0, 0.0, 60.0], [0.0, 500.0, 50.0], [0.0, 0.0, 1.0]]
BOXES = [[10.0, 10.0, 60.0, 80.0], [50.0, 5.0, 40.0, 60.0]]
EVERYTHING = 0.0  # the threshold at which all joints are detected, whatever an untrained model says


def photo(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((120, 100), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def pose_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with weights that tell joints and places apart, and with crops that are not square."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("pose")
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter += torch.randn_like(parameter) * 0.05
    model.save_pretrained(folder)
    JointDetrImageProcessor(size={"height": 128, "width": 96}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def poser(pose_folder: Path) -> Pipeline:
    return pipeline("pose-estimation-3d", model=str(pose_folder), device="cpu", threshold=EVERYTHING)


def assert_same_people(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for person, other in zip(found, expected, strict=True):
        assert person.keys() == other.keys()
        for name in ("joints", "joints_2d", "scores"):
            np.testing.assert_allclose(person[name], other[name], rtol=1e-3, atol=1e-3)


def test_the_task_is_registered_and_the_model_evaluates(poser, pose_folder):
    assert isinstance(poser, JointDetrPipeline)
    model = JointDetrForPoseEstimation.from_pretrained(pose_folder).train()
    processor = JointDetrImageProcessor.from_pretrained(pose_folder)
    assert not JointDetrPipeline(model=model, image_processor=processor, device="cpu").model.training


def test_result_equals_model_and_processor_by_hand(poser):
    image = photo(0)
    inputs = poser.image_processor(image, boxes=BOXES, intrinsics=INTRINSICS, return_tensors="pt")
    with torch.no_grad():
        outputs = poser.model(**inputs)
    (expected,) = poser.image_processor.post_process_pose_estimation(
        outputs, inputs, threshold=EVERYTHING, refiner=poser.model.refiner
    )
    people = poser(image, boxes=BOXES, intrinsics=INTRINSICS, second_look=False)
    assert len(people) == 2
    for person, tensors in zip(people, expected, strict=True):
        assert person["labels"] == list(HUMAN36M.joints)
        relative = {"labels", "joints", "joints_2d", "scores", "detected", "inside", "box"}
        assert person.keys() == relative | {"joints_camera", "residual_px", "intrinsics_guessed"}
        assert person["detected"] == [True] * 17
        np.testing.assert_allclose(person["joints"], tensors["joints"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(person["joints_2d"], tensors["joints_2d"], rtol=1e-4, atol=1e-3)
    assert np.std(people[0]["joints"]) > 1  # an answer, not a constant


def test_result_is_json_and_missing_is_none(poser):
    scores = poser(photo(0), boxes=BOXES[:1])[0]["scores"]
    assert all(isinstance(score, float) for score in scores)
    (person,) = poser(photo(0), boxes=BOXES[:1], intrinsics=INTRINSICS, threshold=float(np.median(scores)))
    assert json.loads(json.dumps(person, allow_nan=False)) == person
    assert sum(person["detected"]) == 9
    assert np.isfinite(person["joints"]).all() and np.isfinite(person["joints_2d"]).all()  # the refiner fills them

    (person,) = poser(photo(0), boxes=BOXES[:1], intrinsics=INTRINSICS, threshold=1.0)
    assert person["detected"] == [False] * 17
    assert person["joints"] == person["joints_camera"] == [[None, None, None]] * 17


def test_lists_batches_and_dictionaries_give_the_same(poser):
    images = [photo(seed) for seed in range(4)]
    boxes = [BOXES, [], BOXES[:1], BOXES[1:]]
    expected = [poser(image, boxes=one) for image, one in zip(images, boxes, strict=True)]
    assert [len(people) for people in expected] == [2, 0, 1, 1]
    items = [{"image": image, "boxes": one} for image, one in zip(images, boxes, strict=True)]
    for batch_size in (1, 3):
        for found in (
            poser(images, boxes=boxes, batch_size=batch_size),
            poser(items, batch_size=batch_size),
            list(poser((item for item in items), batch_size=batch_size)),
        ):
            assert len(found) == 4
            for people, others in zip(found, expected, strict=True):
                assert_same_people(people, others)


def test_intrinsics_in_batches(poser):
    images = [photo(0), photo(1)]
    found = poser(images, boxes=[BOXES, BOXES[:1]], intrinsics=[INTRINSICS] * 2, batch_size=2)
    assert [[len(person["joints_camera"]) for person in people] for people in found] == [[17, 17], [17]]
    first, second = poser(images, intrinsics=[None, INTRINSICS], people="whole", batch_size=2)
    assert first[0]["intrinsics_guessed"] and not second[0]["intrinsics_guessed"]


def test_nobody_in_the_picture(poser):
    assert poser(photo(0), boxes=[]) == []
    assert poser([photo(0), photo(1)], boxes=[[], []], batch_size=2) == [[], []]
    assert poser([]) == []


def test_paths_and_arrays(poser, tmp_path):
    photo(0).save(tmp_path / "photo.png")
    expected = poser(photo(0), boxes=BOXES)
    assert_same_people(poser(str(tmp_path / "photo.png"), boxes=BOXES), expected)
    assert_same_people(poser(np.asarray(photo(0)), boxes=BOXES), expected)
    assert_same_people(poser(torch.from_numpy(np.array(photo(0))).permute(2, 0, 1), boxes=BOXES), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_places(pose_folder, poser, dtype):
    half = pipeline("pose-estimation-3d", model=str(pose_folder), device="cpu", dtype=dtype, threshold=0.0)
    assert half.dtype == dtype
    image = photo(0)
    (person,) = half(image, boxes=BOXES[:1])
    inputs = half.image_processor(image, boxes=BOXES[:1], return_tensors="pt")
    with torch.no_grad():
        outputs = half.model(**inputs.to(dtype))
    ((expected,),) = half.image_processor.post_process_pose_estimation(
        outputs, inputs, threshold=0.0, refiner=half.model.refiner
    )
    assert inputs["pixel_values"].dtype == dtype and inputs["crop_affine"].dtype == torch.float32
    np.testing.assert_allclose(person["joints_2d"], expected["joints_2d"], atol=1e-3)
    assert np.isfinite(person["joints"]).all()


def test_what_does_not_fit_is_refused(poser):
    images = [photo(0), photo(1)]
    with pytest.raises(ValueError, match="`boxes` must have one entry for each of the 2 pictures, got 1"):
        poser(images, boxes=[BOXES])
    with pytest.raises(ValueError, match="`intrinsics` must have one entry"):
        poser(images, intrinsics=[INTRINSICS] * 3)
    with open(__file__, "rb") as file, pytest.raises(ValueError, match="`image` must be a path.*, got BufferedReader"):
        poser(file)
    with pytest.raises(ValueError, match="key `image`"):
        poser({"picture": images[0]})
    with pytest.raises(ValueError, match="must be one picture, got 2"):
        poser(np.zeros((2, 30, 30, 3), np.uint8))
    with pytest.raises(ValueError, match="threshold"):
        poser(images[0], threshold=2.0, people="whole")
    with pytest.raises(ValueError, match='`people` must be "search" or "whole", got "all"'):
        poser(images[0], people="all")
    with pytest.raises(ValueError, match="positive size"):
        poser(images[0], boxes=[[0, 0, -4, 4]])


class KnownDetector:
    """Says what an object-detection pipeline would say: two people and a dog in the first picture, nobody after it."""

    model = SimpleNamespace(config=SimpleNamespace(id2label={0: "person", 1: "dog"}))

    def __init__(self):
        self.calls = 0

    def __call__(self, images: list[Image.Image], threshold: float) -> list[list[dict]]:
        self.calls += 1
        corners = [("person", (50, 5, 90, 65)), ("person", (10, 10, 70, 90)), ("dog", (0, 0, 9, 9))]
        things = [
            {"label": label, "score": 0.9, "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))}
            for label, box in corners
        ]
        return [things if self.calls == 1 else [] for _ in images]


def test_the_whole_picture_is_one_person_on_request_alone(poser):
    (person,) = poser(photo(0), people="whole")
    assert person["box"] == [0, 0, 120, 100]
    assert_same_people(poser([photo(0)] * 2, people="whole", batch_size=2)[1], [person])
    assert poser(Image.new("RGB", (120, 100))) == []  # an untrained model is sure of nobody


def test_a_detector_gives_the_boxes_from_left_to_right(poser):
    images = [photo(0), photo(1)]
    found = poser(images, detector=KnownDetector(), batch_size=2)
    assert [[person["box"] for person in people] for people in found] == [BOXES, []]
    assert_same_people(found[0], poser(photo(0), boxes=BOXES))
    detector = KnownDetector()
    assert len(poser(photo(0), boxes=BOXES[:1], detector=detector)) == 1  # the caller's boxes go first
    assert detector.calls == 0


def test_a_detector_is_loaded_by_name_once(poser, monkeypatch):
    names = []
    monkeypatch.setattr(
        "jointdetr.pipeline_jointdetr.load_detector", lambda name, device: names.append(name) or KnownDetector()
    )
    assert [len(poser(photo(0), detector="some/detector")) for _ in range(3)] == [2, 0, 0]
    assert names == ["some/detector"]


def test_many_people_go_through_the_network_in_passes(poser, monkeypatch):
    sizes = []
    forward = type(poser.model).forward

    def counting_forward(self, pixel_values, **kwargs):
        sizes.append(len(pixel_values))
        return forward(self, pixel_values, **kwargs)

    monkeypatch.setattr(type(poser.model), "forward", counting_forward)
    boxes = [[2 * number, 10, 40, 60] for number in range(50)]
    people = poser(photo(0), boxes=boxes, second_look=False)
    assert sizes == [16, 16, 16, 2]
    assert [person["box"] for person in people] == boxes
    assert_same_people(people[:20], poser(photo(0), boxes=boxes[:20], crops_per_pass=7, second_look=False))
    assert max(sizes[4:]) == 7
    with pytest.raises(ValueError, match="`crops_per_pass` must be at least 1"):
        poser(photo(0), crops_per_pass=0)


@pytest.mark.parametrize("surer", [True, False])
def test_who_leans_is_looked_at_again_and_the_surer_look_is_kept(poser, monkeypatch, surer):
    looks = []
    one_query_a_joint = torch.full((2, poser.model.config.num_queries, 18), 0.0)
    one_query_a_joint[:, range(17), range(17)] = 4.0

    def run(pixel_values, crops_per_pass=16):
        crops = len(pixel_values)
        looks.append(crops)
        noise = torch.Generator().manual_seed(0)
        points = torch.rand(crops, poser.model.config.num_queries, 2, generator=noise) * 0.01 + 0.5
        points[0, [11, 14]] += torch.tensor([0.2, 0.0])  # the first one's shoulders are to the right of the hips
        points[1:, [11, 14]] -= torch.tensor([0.0, 0.2])
        joints = torch.full((crops, poser.model.config.num_queries, 3), float(len(looks)))
        logits = one_query_a_joint[:crops] * (1.5 if surer or len(looks) == 1 else 0.5)
        logits = logits if len(looks) == 2 else one_query_a_joint[:crops]
        return ModelOutput(
            logits=logits, pred_joints=joints, pred_points=points, pred_sigmas=None, pred_visibility=None
        )

    monkeypatch.setattr(poser, "run_model", run)
    monkeypatch.setitem(poser.model._modules, "refiner", None)
    expected_looks = [2, 1, 1] if surer else [2, 1]  # a look that was surer and leans again is followed by a third
    people = poser(photo(0), boxes=BOXES)
    assert looks == expected_looks
    turned = np.array(people[0]["joints"])
    if surer:  # from the second look, where every joint was at 2 mm, and turned back by a quarter
        np.testing.assert_allclose(turned, [[-2, 2, 2]] * 17, atol=0.3)
    else:
        np.testing.assert_allclose(turned, 1.0, rtol=1e-5)
    np.testing.assert_allclose(people[1]["joints"], 1.0, rtol=1e-5)
    looks.clear()
    poser(photo(0), boxes=BOXES, second_look=False)
    assert looks == [2]
    looks.clear()
    once = poser.look(photo(0), BOXES)
    looks.clear()
    twice = poser.look(photo(0), BOXES, second_look=True)
    assert looks == expected_looks
    assert (twice.points != once.points).any((1, 2)).tolist() == [surer, False]


@pytest.mark.parametrize("surest", [0, 2])
def test_who_is_seen_unsurely_is_looked_at_from_all_sides(poser, monkeypatch, surest):
    """The first of two people, who stands; the look that is surest has its joints at so many mm."""
    looks = []

    def run(pixel_values, crops_per_pass=16):
        crops, look = len(pixel_values), len(looks)
        looks.append(crops)
        logits = torch.zeros(crops, poser.model.config.num_queries, 18)
        logits[:, range(17), range(17)] = 8.0
        logits[0, range(17), range(17)] = 3.0 if look == surest else 2.0
        points = torch.full((crops, poser.model.config.num_queries, 2), 0.5)
        points[:, [11, 14], 1] = 0.3
        joints = torch.full((crops, poser.model.config.num_queries, 3), float(look))
        return ModelOutput(
            logits=logits, pred_joints=joints, pred_points=points, pred_sigmas=None, pred_visibility=None
        )

    monkeypatch.setattr(poser, "run_model", run)
    monkeypatch.setitem(poser.model._modules, "refiner", None)
    people = poser(photo(0), boxes=BOXES)
    assert looks == [2, 1, 1, 1]
    expected = [0, 0, 0] if surest == 0 else [-2, -2, 2]  # upside down
    np.testing.assert_allclose(people[0]["joints"], [expected] * 17, atol=0.01)
    np.testing.assert_allclose(people[1]["joints"], 0.0, atol=0.01)


def test_cameras_of_every_kind(poser, tmp_path):
    extrinsics = [[1, 0, 0, 0], [0, 0, -1, 1500], [0, 1, 0, 0]]
    camera = {"intrinsics": INTRINSICS, "distortion": {"model": "brown", "coefficients": [-0.1, 0, 0, 0]}}
    (tmp_path / "camera.json").write_text(json.dumps(camera | {"extrinsics": extrinsics}))
    arguments = {"intrinsics": INTRINSICS, "distortion": "brown:-0.1,0,0,0", "extrinsics": extrinsics}
    by_file, by_arguments, by_item = (
        poser(photo(0), boxes=BOXES, camera=tmp_path / "camera.json"),
        poser(photo(0), boxes=BOXES, **arguments),
        poser([{"image": photo(0), "boxes": BOXES, **arguments}])[0],
    )
    assert by_file == by_arguments == by_item
    assert by_file[0].keys() >= {"joints_camera", "joints_world", "residual_px"}
    (guess,) = poser(photo(0), boxes=BOXES[:1], field_of_view=60)
    assert guess["intrinsics_guessed"] is True and "joints_world" not in guess
    with pytest.raises(ValueError, match="`camera` must be given alone"):
        poser(photo(0), camera=tmp_path / "camera.json", field_of_view=60)
    with pytest.raises(TypeError, match="no argument focal"):
        poser(photo(0), focal=60)


def test_tensors_on_request(poser):
    (person,) = poser(photo(0), boxes=BOXES[:1], threshold=1.0, return_tensors=True)
    assert person["joints_2d"].isnan().all() and person["detected"].dtype == torch.bool


ROWS = {
    "data set": lambda rows: rows,
    "torch": lambda rows: rows.with_format("torch"),
    "numpy": lambda rows: rows.with_format("numpy"),
    "a part": lambda rows: rows.select([0, 1, 2]),
    "iterable": lambda rows: rows.to_iterable_dataset(),
    "generator": lambda rows: (row for row in rows),
    "iterator": iter,
    "map": lambda rows: map(dict, rows),
}


@pytest.mark.parametrize("kind", ROWS.values(), ids=ROWS)
def test_data_sets_of_any_kind_give_a_list_for_each_row(poser, kind):
    pictures = [photo(seed) for seed in range(3)]
    rows = datasets.Dataset.from_dict({"image": pictures, "boxes": [BOXES[:1]] * 2 + [BOXES]})
    rows = rows.cast_column("image", datasets.Image())
    found = list(poser(kind(rows), batch_size=2, threshold=EVERYTHING))
    assert [len(people) for people in found] == [1, 1, 2]
    expected = poser(pictures, boxes=[BOXES[:1], BOXES[:1], BOXES], threshold=EVERYTHING)
    np.testing.assert_allclose(found[2][1]["joints"], expected[2][1]["joints"], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("given", [{"boxes": [BOXES]}, {"intrinsics": [INTRINSICS]}])
def test_boxes_beside_a_data_set_are_refused_with_the_way_to_give_them(poser, given):
    rows = datasets.Dataset.from_dict({"image": [photo(0)]}).cast_column("image", datasets.Image())
    for images in (rows, rows.to_iterable_dataset(), (row for row in rows), iter([photo(0)])):
        with pytest.raises(ValueError, match=r"a data set or generator gives them with each, as \{\"image\": \.\.\.,"):
            poser(images, **given)


def test_what_is_beyond_a_crop_makes_a_look_worse_but_nobody_unsure():
    logits = torch.full((2, 17, 18), -20.0)
    logits[:, range(17), range(17)] = 20.0
    points = torch.full((2, 17, 2), 0.5)
    points[1, 9:] = 1.2
    sigmas = torch.full((2, 17), 190.0)
    sigmas[1, 9:] = 500.0
    outputs = JointDetrPoseEstimationOutput(
        logits=logits, pred_joints=torch.zeros(2, 17, 3), pred_points=points, pred_sigmas=sigmas
    )
    views = _Views({}, outputs)
    assert views.doubts.tolist() == pytest.approx([190.0, (9 * 190 + 8 * 500) / 17])
    assert views.are_unsure.tolist() == [False, False]
    outputs.pred_sigmas = sigmas + 20
    assert _Views({}, outputs).are_unsure.tolist() == [True, True]
