"""Crops agree with their labels, every kind of picture is read or refused, and outputs come back to the picture."""

import base64
import io
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForPoseEstimation
from transformers.utils import is_torchvision_available

from jointdetr import JointDetrImageProcessor, JointDetrImageProcessorPil, JointRefinerConfig
from jointdetr.camera_jointdetr import apply_affine, crop_intrinsics, invert_affine, project
from jointdetr.modeling_jointdetr import JointDetrPoseEstimationOutput
from jointdetr.picture_jointdetr import load_picture, person_crop_affine, warp_image

INTRINSICS = [[500.0, 0.0, 100.0], [0.0, 510.0, 80.0], [0.0, 0.0, 1.0]]


def compose_affine(outer, inner):
    """The map that applies `inner` first and `outer` then."""
    last = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    return outer @ torch.cat([inner, last])


@pytest.fixture
def processor() -> JointDetrImageProcessorPil:
    return JointDetrImageProcessorPil(size={"height": 64, "width": 48})


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    """A picture of 40 x 30 pixels (width x height), no two alike."""
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def similarity(angle: float, scale: float, centre: tuple[float, float], target: tuple[float, float]) -> torch.Tensor:
    """Turn about `centre` in the picture, which comes to lie on `target`."""
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    shift = torch.tensor(target).double() - turn @ torch.tensor(centre).double()
    return torch.cat([turn, shift[:, None]], dim=1)


def draw_blob(width: int, height: int, centre: tuple[float, float], sigma: float) -> Image.Image:
    """A soft spot whose centre is known to a fraction of a pixel."""
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    spot = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    return Image.fromarray(np.rint(spot).astype(np.uint8).repeat(3).reshape(height, width, 3))


def find_blob(image: Image.Image) -> torch.Tensor:
    """Centre of mass in continuous pixel coordinates."""
    mass = np.asarray(image).astype(np.float64)[..., 1]
    x, y = np.arange(image.width) + 0.5, np.arange(image.height)[:, None] + 0.5
    return torch.tensor([(mass * x).sum(), (mass * y).sum()]) / mass.sum()


@pytest.mark.parametrize("angle", [0.0, 0.3, -2.0])
@pytest.mark.parametrize("scale", [2.3, 1.0, 0.7, 0.45, 0.26, 0.11])
def test_labels_and_pictures_go_together_through_any_similarity(angle, scale):
    centre = (231.3, 183.8)
    image = draw_blob(500, 400, centre, sigma=max(4.0, 2.5 / scale))
    assert (find_blob(image) - torch.tensor(centre)).abs().max() < 0.01
    affine = similarity(angle, scale, centre=(220.0, 190.0), target=(70.0, 55.0))
    warped = warp_image(image, affine, (110, 140))
    label = apply_affine(torch.tensor([centre]).double(), affine)[0]
    assert (find_blob(warped) - label).abs().max() < 0.05


def test_labels_and_pictures_go_together_through_a_mirrored_padded_crop():
    centre = (60.4, 41.7)
    image = draw_blob(192, 192, centre, sigma=9)
    affine = person_crop_affine((-30, -20, 200, 150), (128, 128))  # partly outside the picture
    affine = compose_affine(torch.tensor([[-1.0, 0.0, 128.0], [0.0, 1.0, 0.0]]).double(), affine)
    label = apply_affine(torch.tensor([centre]).double(), affine)[0]
    assert (find_blob(warp_image(image, affine, (128, 128))) - label).abs().max() < 0.05


def test_an_identity_crop_changes_no_pixel(colours):
    image = Image.fromarray(colours)
    affine = person_crop_affine((5, 4, 20, 10), (10, 20), padding=1.0)
    np.testing.assert_array_equal(np.asarray(warp_image(image, affine, (10, 20))), colours[4:14, 5:25])


def test_shrinking_averages_and_does_not_alias():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # the finest pattern there is: grey from afar
    image = Image.fromarray(stripes)
    for shrinkage in (2.0, 4.0, 5.3, 8.0):
        size = round(200 / shrinkage)
        small = np.asarray(warp_image(image, person_crop_affine((20, 20, 200, 200), (size, size), 1.0), (size, size)))
        assert abs(small.mean() - 127.5) < 3
        assert small.std() < 25


def test_shrinking_is_close_to_an_exact_average(real_data):
    image = Image.open(next((real_data / "human36m").rglob("*.jpg"))).convert("RGB")
    for shrinkage in (1.3, 1.8, 2.5, 3.4, 6.0):
        affine = similarity(0.2, 1 / shrinkage, centre=(500, 500), target=(48, 48))
        fine = compose_affine(torch.tensor([[8.0, 0.0, 0.0], [0.0, 8.0, 0.0]]).double(), affine)
        reference = warp_image(image, fine, (768, 768)).resize((96, 96), Image.Resampling.BILINEAR)
        warped = warp_image(image, affine, (96, 96))
        error = np.asarray(warped).astype(float) - np.asarray(reference)
        assert 20 * np.log10(255 / np.sqrt((error**2).mean())) > 34  # dB


def test_nearest_keeps_labels_whole():
    labels = Image.fromarray(np.random.default_rng(0).choice([0, 3, 200], (90, 90)).astype(np.uint8))
    warped = warp_image(labels, similarity(0.4, 0.3, (45, 45), (12, 12)), (24, 24), Image.Resampling.NEAREST)
    assert set(np.unique(np.asarray(warped))) <= {0, 3, 200}
    depths = Image.fromarray(np.full((90, 90), 33000, np.uint16))
    warped = warp_image(depths, similarity(0.4, 2.0, (45, 45), (12, 12)), (24, 24), Image.Resampling.NEAREST)
    assert (np.asarray(warped) == 33000).all()


def test_outside_the_picture_is_black(colours):
    image = Image.fromarray(colours // 2 + 100)
    for scale in (1.0, 0.2, 1e-4):
        far = similarity(0.0, scale, centre=(-1e5, 0), target=(8, 8))
        assert not np.asarray(warp_image(image, far, (16, 16))).any()


def test_the_padded_box_fills_the_crop():
    box, padding = (100.0, 50.0, 40.0, 80.0), 1.25
    corners = torch.tensor([[100.0, 50.0], [140.0, 130.0]]).double()
    square = apply_affine(corners, person_crop_affine(box, (256, 256), padding))
    torch.testing.assert_close(square, torch.tensor([[76.8, 25.6], [179.2, 230.4]]).double())
    tall = apply_affine(corners, person_crop_affine(box, (256, 192), padding))
    torch.testing.assert_close(tall, torch.tensor([[44.8, 25.6], [147.2, 230.4]]).double())


def test_result_has_one_crop_for_each_person(processor, colours):
    boxes = [[[0, 0, 10, 20], [5, 5, 30, 20]], [], [[2, 2, 8, 8]]]
    images = [colours, colours[:20], colours]
    inputs = processor(images, boxes=boxes, intrinsics=[INTRINSICS] * 3, return_tensors="pt")
    assert inputs["pixel_values"].shape == (3, 3, 64, 48) and inputs["pixel_values"].dtype == torch.float32
    assert inputs["image_index"].tolist() == [0, 0, 2]
    assert inputs["image_sizes"].tolist() == [[30, 40], [20, 40], [30, 40]]
    expected = person_crop_affine((5, 5, 30, 20), (64, 48)).float()
    torch.testing.assert_close(inputs["crop_affine"][1], expected)
    torch.testing.assert_close(
        inputs["crop_intrinsics"][1], crop_intrinsics(torch.tensor(INTRINSICS), expected), atol=1e-3, rtol=1e-5
    )


def test_without_a_box_the_whole_picture_is_letterboxed(processor):
    inputs = processor(np.full((20, 60, 3), 255, np.uint8), return_tensors="pt", do_normalize=False)
    corners = apply_affine(torch.tensor([[0.0, 0.0], [60.0, 20.0]]), inputs["crop_affine"][0])
    torch.testing.assert_close(corners, torch.tensor([[0.0, 24.0], [48.0, 40.0]]))
    rows = inputs["pixel_values"][0, 0].mean(dim=1)
    assert (rows[24:40] > 0.99).all() and not rows[:24].any() and not rows[40:].any()


def test_rescale_and_normalise(processor):
    grey = np.full((48, 64, 3), 51, np.uint8)
    raw = processor(grey, return_tensors="np", do_rescale=False, do_normalize=False)["pixel_values"]
    middle = np.s_[0, :, 32, 24]
    np.testing.assert_array_equal(raw[middle], 51)
    normalised = processor(grey, return_tensors="np")["pixel_values"]
    expected = (0.2 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(normalised[middle], expected, atol=1e-5)


def test_a_batch_equals_its_pictures_one_by_one(processor, colours):
    images = [colours, colours[::-1].copy(), colours[5:]]
    boxes = [[[3, 3, 12, 20]], [[1, 2, 30, 20], [0, 0, 10, 10]], [[4, 4, 4, 4]]]
    batch = processor(images, boxes=boxes, return_tensors="pt")
    single = [processor(image, boxes=one, return_tensors="pt") for image, one in zip(images, boxes, strict=True)]
    for name in ("pixel_values", "crop_affine", "image_sizes"):
        assert torch.equal(batch[name], torch.cat([inputs[name] for inputs in single]))


@pytest.mark.parametrize(
    ("boxes", "count"),
    [
        ([1, 2, 30, 20], 1),
        ([[1, 2, 30, 20], [0, 0, 9, 9]], 2),
        ([[[1, 2, 30, 20], [0, 0, 9, 9]]], 2),
        (np.array([[1, 2, 30, 20]]), 1),
        (torch.tensor([[1, 2, 30, 20]]), 1),
        ([], 0),
        ([[]], 0),
        (None, 1),
    ],
)
def test_boxes_of_a_single_picture(processor, colours, boxes, count):
    inputs = processor(colours, boxes=boxes, intrinsics=INTRINSICS, return_tensors="pt")
    assert inputs["pixel_values"].shape == (count, 3, 64, 48)
    assert inputs["crop_intrinsics"].shape == (count, 3, 3)


def test_boxes_of_several_pictures(processor, colours):
    boxes = [[1, 2, 30, 20], None, torch.tensor([[0, 0, 9, 9], [1, 1, 9, 9]]), []]
    inputs = processor([colours] * 4, boxes=boxes, return_tensors="pt")
    assert inputs["image_index"].tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[[0, 0, 0, 10]], []], r"boxes\[0\].*positive size, got \[0.0, 0.0, 0.0, 10.0\]"),
        ([[], [[0, 0, 10, -1]]], r"boxes\[1\].*positive size"),
        ([[[0, 0, 10, float("nan")]], []], "finite"),
        ([[[float("inf"), 0, 10, 10]], []], "finite"),
        ([[[40, 0, 10, 10]], []], r"overlap.*outside a picture of 40 x 30 px"),
        ([[[-10, 0, 10, 10]], []], "overlap"),
        ([[[0, 0, 10]], []], r"shape \(people, 4\).*got shape \(1, 3\)"),
        ([[[[0, 0, 10, 10]]], []], "shape"),
        ([[[0, 0, 10, 10], [1, 2]], []], r"boxes\[0\].*array of numbers"),
        ([["box"], []], "array of numbers"),
        ([[[0, 0, 10, 10]]], "each of the 2 pictures, got 1"),
    ],
)
def test_boxes_that_cannot_be_right_are_refused(processor, colours, boxes, message):
    with pytest.raises(ValueError, match=message):
        processor([colours, colours], boxes=boxes, return_tensors="pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda matrix: matrix * [[0.0], [1.0], [1.0]], "positive focal lengths"),
        (lambda matrix: matrix * np.nan, "finite"),
        (lambda matrix: matrix.T, r"\[0, 0, 1\]"),
        (lambda matrix: matrix[:2], r"3x3 matrix.*got shape \(1, 2, 3\)"),
        (lambda matrix: np.stack([matrix, matrix]), "shape"),
        (lambda matrix: "camera", "array of numbers"),
    ],
)
def test_intrinsics_that_cannot_be_right_are_refused(processor, colours, change, message):
    with pytest.raises(ValueError, match=message):
        processor([colours], intrinsics=[change(np.array(INTRINSICS))], return_tensors="pt")


def test_settings_that_cannot_be_right_are_refused(processor, colours):
    for settings in ({"box_padding": 0.0}, {"do_resize": False}, {"size": {"shortest_edge": 64}}):
        with pytest.raises(ValueError, match=f"`{next(iter(settings))}` must"):
            processor(colours, **settings)
    with pytest.raises(ValueError, match="at least one picture"):
        processor([])
    with pytest.raises(ValueError, match="finite"):
        person_crop_affine((0, 0, float("nan"), 3), (8, 8))


@pytest.mark.parametrize(
    "convert",
    [
        Image.fromarray,
        lambda pixels: pixels,
        lambda pixels: pixels.transpose(2, 0, 1),
        lambda pixels: torch.from_numpy(pixels),
        lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
        lambda pixels: pixels / 255,
        lambda pixels: pixels.astype(np.float32),
        lambda pixels: pixels.astype(np.int64),
        lambda pixels: pixels.astype(np.uint16) * 257,
        lambda pixels: torch.from_numpy(pixels) / 255,
        lambda pixels: Image.fromarray(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])),
        lambda pixels: np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
    ],
)
def test_the_same_picture_in_many_guises(colours, convert):
    np.testing.assert_array_equal(np.asarray(load_picture(convert(colours))), colours)


def test_grey_pictures_of_every_depth():
    grey = np.array([[0, 100, 255, 7, 9]], np.uint8)
    expected = grey[..., None].repeat(3, axis=-1)
    sixteen = grey.astype(np.uint16) * 257
    for source in (
        grey,
        grey[None],
        torch.from_numpy(grey),
        sixteen,
        Image.fromarray(grey),
        Image.fromarray(sixteen),
        Image.fromarray(sixteen.astype(np.int32)),  # mode "I"
        Image.fromarray(grey.astype(np.float32)),  # mode "F"
        Image.fromarray(np.stack([grey, np.full_like(grey, 255)], axis=-1)),  # mode "LA"
    ):
        np.testing.assert_array_equal(np.asarray(load_picture(source)), expected)
    black_and_white = Image.fromarray(np.array([[False, True]]))
    np.testing.assert_array_equal(np.asarray(load_picture(black_and_white))[0, :, 0], [0, 255])
    np.testing.assert_array_equal(np.asarray(load_picture(np.array([[False, True]])))[0, :, 0], [0, 255])


def test_palettes_and_transparency():
    colours = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8))
    np.testing.assert_array_equal(np.asarray(load_picture(colours.convert("P"))), np.asarray(colours))
    np.testing.assert_array_equal(np.asarray(load_picture(colours.convert("CMYK"))), np.asarray(colours))
    half = np.array([[[255, 0, 0, 0], [0, 0, 255, 255]]], np.uint8)
    for source in (Image.fromarray(half), half, half / 255):
        np.testing.assert_array_equal(np.asarray(load_picture(source))[0], [[255, 255, 255], [0, 0, 255]])


def test_layout_of_ambiguous_arrays():
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    np.testing.assert_array_equal(np.asarray(load_picture(pixels)), pixels)
    np.testing.assert_array_equal(np.asarray(load_picture(torch.from_numpy(pixels))), pixels.transpose(1, 2, 0))
    by_hand = load_picture(pixels, data_format="channels_first")
    np.testing.assert_array_equal(np.asarray(by_hand), pixels.transpose(1, 2, 0))
    assert load_picture(np.zeros((1, 1, 3), np.uint8)).size == (1, 1)


def test_a_single_pixel_becomes_a_whole_crop(processor):
    inputs = processor(np.full((1, 1, 3), 255, np.uint8), return_tensors="pt", do_normalize=False)
    assert (inputs["pixel_values"][0, :, 8:56] == 1).all()


def test_exif_orientation_is_respected(tmp_path, processor, colours):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.fromarray(colours).rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(load_picture(tmp_path / "turned.png")), colours)
    np.testing.assert_array_equal(np.asarray(load_picture(Image.open(tmp_path / "turned.png"))), colours)
    box = [[20, 5, 15, 20]]
    turned = processor(str(tmp_path / "turned.png"), boxes=box, return_tensors="pt")
    assert torch.equal(turned["pixel_values"], processor(colours, boxes=box, return_tensors="pt")["pixel_values"])


def test_paths_base64_and_sixteen_bit_files(tmp_path, colours):
    Image.fromarray(colours).save(tmp_path / "colours.png")
    encoded = base64.b64encode((tmp_path / "colours.png").read_bytes()).decode()
    for source in (
        str(tmp_path / "colours.png"),
        tmp_path / "colours.png",
        encoded,
        f"data:image/png;base64,{encoded}",
    ):
        np.testing.assert_array_equal(np.asarray(load_picture(source)), colours)
    for name in ("deep.png", "deep.tiff"):
        Image.fromarray(np.array([[0, 25700, 65535]], np.uint16)).save(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(load_picture(tmp_path / name))[0, :, 0], [0, 100, 255])


@pytest.fixture
def web_server(colours) -> Iterator[str]:
    """Serve the picture at any address but `/missing`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if self.path == "/missing" else 200)
            self.end_headers()
            Image.fromarray(colours).save(self.wfile, format="png")

        def log_message(self, *_) -> None:
            """Keep the test's output clean."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_urls(web_server, colours):
    np.testing.assert_array_equal(np.asarray(load_picture(f"{web_server}/picture.png")), colours)
    with pytest.raises(ValueError, match="missing.*404"):
        load_picture(f"{web_server}/missing")


def picture_file(colours: np.ndarray, file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, format=file_format)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("file_format", ["png", "jpeg", "gif", "webp", "tiff", "bmp"])
def test_truncated_files_are_refused_by_name(tmp_path, colours, processor, file_format):
    whole = picture_file(colours, file_format)
    path = tmp_path / f"broken.{file_format}"
    for share in (0.0, 0.02, 0.3, 0.6):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match=r"`images\[1\]` must be a readable picture, got .*broken"):
            processor([colours, path])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/picture.jpg", "existing file, a URL or base64, got 'no/such/picture.jpg'"),
        ("A" * 4000, r"readable picture, got .*\(4000 characters\)': no kind of picture that Pillow knows"),
        ("photo1", "existing file, a URL or base64, got 'photo1'"),  # which happens to be base64
        ("", "existing file, a URL or base64, got ''"),
        (".", "got the folder '.': name the files in it"),
        (b"bytes", "got bytes"),
        (None, "got NoneType"),
        (3, "got int"),
        (np.zeros((6, 5, 2)), r"got shape \(6, 5, 2\)"),
        (np.zeros((0, 5, 3)), r"at least one pixel, got shape \(0, 5, 3\)"),
        (np.zeros(7), r"got shape \(7,\)"),
        (np.full((4, 5, 3), np.nan), "from nan to nan"),
        (np.full((4, 5, 3), 1.5), "from 1.5 to 1.5"),
        (np.full((4, 5, 3), -0.5), "from -0.5"),
        (np.full((4, 5, 3), 256), "from 256"),
        (np.full((4, 5, 3), "x"), "must hold numbers"),
        (Image.fromarray(np.full((4, 5), 70000, np.int32)), "16-bit values, got 70000"),
    ],
)
def test_what_is_no_picture_is_refused(source, message):
    with pytest.raises(ValueError, match=f"(?s)`picture`.*{message}"):
        load_picture(source)


def test_a_text_file_is_no_picture(tmp_path):
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(ValueError, match=r"`picture` must be a readable picture, got .*notes.txt"):
        load_picture(tmp_path / "notes.txt")


def test_a_picture_of_an_iphone_is_named_for_what_it_is(tmp_path):
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(ValueError, match="got .*phone.jpg': HEIC is not read here: save it as JPEG"):
        load_picture(tmp_path / "phone.jpg")


def test_an_address_that_nobody_answers():
    with pytest.raises(ValueError, match="got 'http://127.0.0.1:9/a.jpg': it cannot be fetched: Connection refused"):
        load_picture("http://127.0.0.1:9/a.jpg")


def test_half_precision_spares_the_geometry(processor, colours):
    inputs = processor(colours, boxes=[[3.3, 4.7, 20, 20]], intrinsics=INTRINSICS, return_tensors="pt")
    geometry = {name: inputs[name].clone() for name in ("crop_affine", "crop_intrinsics")}
    cast = inputs.to(torch.bfloat16)
    assert cast["pixel_values"].dtype == torch.bfloat16
    assert all(torch.equal(cast[name], value) for name, value in geometry.items())


def test_saving_and_loading_keeps_the_settings(tmp_path, colours):
    before = JointDetrImageProcessor(size={"height": 40, "width": 24}, box_padding=1.5)
    before.save_pretrained(tmp_path)
    for after in (JointDetrImageProcessor.from_pretrained(tmp_path), AutoImageProcessor.from_pretrained(tmp_path)):
        assert isinstance(after, JointDetrImageProcessor)
        assert after.box_padding == 1.5 and after.to_dict() == before.to_dict()
        box = [[5, 5, 20, 20]]
        expected = before(colours, boxes=box, return_tensors="pt")["pixel_values"]
        assert torch.equal(after(colours, boxes=box, return_tensors="pt")["pixel_values"], expected)


@pytest.mark.skipif(not is_torchvision_available(), reason="torchvision is not installed")
def test_both_backends_agree(colours):
    images, boxes = [colours, colours[:20]], [[[3, 3, 20, 20]], [[1, 1, 9, 12], [5, 5, 10, 10]]]
    fast = JointDetrImageProcessor()(images, boxes=boxes, return_tensors="pt")
    plain = JointDetrImageProcessorPil()(images, boxes=boxes, return_tensors="pt")
    assert JointDetrImageProcessor().backend == "torchvision"
    torch.testing.assert_close(dict(fast), dict(plain))


def make_outputs(
    joints: torch.Tensor, points: torch.Tensor, missing: Sequence[int] = ()
) -> JointDetrPoseEstimationOutput:
    """What a perfect network would say: query j is joint j, and the joints in `missing` are told from nothing."""
    crops, num_joints, _ = joints.shape
    logits = torch.full((crops, num_joints, num_joints + 1), -20.0)
    for joint in range(num_joints):
        logits[:, joint, num_joints if joint in missing else joint] = 0.0
    return JointDetrPoseEstimationOutput(logits=logits, pred_joints=joints, pred_points=points)


@pytest.fixture
def scene(processor) -> SimpleNamespace:
    """Two pictures with two people and one, seen by cameras, and what a perfect network says about them."""
    joints = torch.randn(3, 17, 3) * 300
    joints -= joints[:, :1].clone()
    roots = torch.tensor([[-300.0, 0.0, 4000.0], [500.0, 100.0, 5000.0], [0.0, 0.0, 3500.0]])
    points = project((joints + roots[:, None]).double(), torch.tensor(INTRINSICS).double())
    boxes = [[[30, 40, 60, 90], [90, 40, 60, 80]], [], [[60, 40, 70, 70]]]
    images = [np.zeros((160, 200, 3), np.uint8)] * 3
    inputs = processor(images, boxes=boxes, intrinsics=[INTRINSICS] * 3, return_tensors="pt")
    normalised = apply_affine(points, inputs["crop_affine"].double()) / torch.tensor([48.0, 64.0])
    return SimpleNamespace(inputs=inputs, joints=joints, roots=roots, points=points, normalised=normalised.float())


def test_perfect_outputs_come_back_as_the_scene(processor, scene):
    outputs = make_outputs(scene.joints, scene.normalised)
    people = processor.post_process_pose_estimation(outputs, scene.inputs)
    assert [len(in_image) for in_image in people] == [2, 0, 1]
    for found, joints, root, points in zip(
        people[0] + people[2], scene.joints, scene.roots, scene.points, strict=True
    ):
        assert found["detected"].all() and (found["scores"] > 0.99).all()
        torch.testing.assert_close(found["joints"], joints)
        torch.testing.assert_close(found["joints_2d"], points.float(), atol=0.01, rtol=0)
        torch.testing.assert_close(found["joints_camera"], joints + root, atol=2.0, rtol=0)


def test_missing_joints_are_nan_and_do_not_place_the_person(processor, scene):
    points = scene.normalised.clone()
    points[:, 4:] = 0.5  # what is said of missing joints is not believed
    people = processor.post_process_pose_estimation(make_outputs(scene.joints, points, range(4, 17)), scene.inputs)
    person = people[0][0]
    assert person["detected"].tolist() == [True] * 4 + [False] * 13
    for name in ("joints", "joints_2d", "joints_camera"):
        assert person[name][:4].isfinite().all() and person[name][4:].isnan().all()
    torch.testing.assert_close(person["joints_camera"][:4], scene.joints[0, :4] + scene.roots[0], atol=10.0, rtol=0)


def test_a_refiner_fills_missing_joints_in_camera_space_too(processor, scene):
    class KnowingRefiner:
        config = JointRefinerConfig()

        def __call__(self, joints: torch.Tensor, missing: torch.Tensor, sigmas: None) -> SimpleNamespace:
            return SimpleNamespace(joints=torch.where(missing[..., None], scene.joints, joints))

    outputs = make_outputs(scene.joints, scene.normalised, missing=(3, 13))
    person = processor.post_process_pose_estimation(outputs, scene.inputs, refiner=KnowingRefiner())[2][0]
    torch.testing.assert_close(person["joints_camera"], scene.joints[2] + scene.roots[2], atol=2.0, rtol=0)
    assert not person["detected"][3] and not person["detected"][13]
    torch.testing.assert_close(person["joints_2d"], scene.points[2].float(), atol=0.5, rtol=0)


def test_people_who_cannot_be_placed_are_nan_in_camera_space(processor, scene):
    too_few = make_outputs(scene.joints, scene.normalised, missing=range(2, 17))
    one_point = make_outputs(scene.joints, torch.full_like(scene.normalised, 0.5))
    upside_down = make_outputs(-scene.joints, scene.normalised)  # would have to stand behind the camera
    for outputs in (too_few, one_point, upside_down):
        for person in sum(processor.post_process_pose_estimation(outputs, scene.inputs), []):
            assert person["joints_camera"].isnan().all()
            assert person["joints"][:2].isfinite().all()


def test_half_precision_outputs_are_processed_in_single_precision(processor, scene):
    outputs = make_outputs(scene.joints, scene.normalised)
    half = type(outputs)(**{name: value.bfloat16() for name, value in outputs.items()})
    rounded = type(outputs)(**{name: value.bfloat16().float() for name, value in outputs.items()})
    found = processor.post_process_pose_estimation(half, scene.inputs)[2][0]
    expected = processor.post_process_pose_estimation(rounded, scene.inputs)[2][0]
    for name, values in found.items():
        is_answer = name in ("detected", "inside", "intrinsics_guessed")
        assert values.dtype == (torch.bool if is_answer else torch.float32)
        torch.testing.assert_close(values, expected[name])


def test_post_processing_refuses_what_does_not_fit(processor, scene):
    outputs = make_outputs(scene.joints, scene.normalised)
    with pytest.raises(ValueError, match="of the 3 crops in `inputs`, got 2"):
        processor.post_process_pose_estimation(make_outputs(scene.joints[:2], scene.normalised[:2]), scene.inputs)
    with pytest.raises(ValueError, match="threshold"):
        processor.post_process_pose_estimation(outputs, scene.inputs, threshold=1.5)
    scene.inputs["crop_affine"] = scene.inputs["crop_affine"].half()
    with pytest.raises(ValueError, match="crop_affine.*single precision"):
        processor.post_process_pose_estimation(outputs, scene.inputs)


def test_nobody_needs_no_outputs(processor, colours):
    inputs = processor([colours, colours], boxes=[[], []], return_tensors="pt")
    assert processor.post_process_pose_estimation(None, inputs) == [[], []]


def test_crop_affines_invert_to_the_picture(processor, colours):
    inputs = processor(colours, boxes=[[4.5, 3.25, 20, 22]], return_tensors="pt")
    centre = apply_affine(torch.tensor([[24.0, 32.0]]), invert_affine(inputs["crop_affine"][0]))
    torch.testing.assert_close(centre, torch.tensor([[14.5, 14.25]]))


def test_real_pictures_and_labels_agree(real_data: Path, processor: JointDetrImageProcessorPil):
    """Joints of Human3.6M, projected by the crop's intrinsics, lie where the crop's affine puts their pixels."""
    rows = np.load(real_data / "human36m" / "test_h36m_body3d.npz")
    for path, joints, points in zip(rows["imgname"], rows["S"], rows["part"], strict=True):
        image = real_data / "human36m" / path
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        intrinsics = [[1145.0, 0.0, 512.0], [0.0, 1144.0, 515.0], [0.0, 0.0, 1.0]]
        inputs = processor(image, boxes=[[*low, *(high - low)]], intrinsics=intrinsics, return_tensors="pt")
        in_crop = apply_affine(torch.from_numpy(points[:, :2]).float(), inputs["crop_affine"][0])
        assert (in_crop >= 4).all() and (in_crop <= torch.tensor([44.0, 60.0])).all()
        projected = project(torch.from_numpy(joints[:, :3]).float(), inputs["crop_intrinsics"][0])
        assert (projected - in_crop).abs().max() < 1.5


WRONG_SETTINGS = [
    *(("box_padding", value) for value in ([], "x", None, True, 0, -1.0, float("nan"), {})),
    *(("size", value) for value in ("x", None, {"height": "a", "width": 3}, {"shortest_edge": 3}, [1, 2, 3], 0, 2.5)),
    *(("image_mean", value) for value in (None, "x", [0.5, 0.5], [[0.5] * 3] * 2, ["a", "b", "c"], {})),
    *(("image_std", value) for value in (None, 0, [0, 0, 0], [1, 1, -1], "x")),
    *(("rescale_factor", value) for value in (None, "x", [], 0)),
    *(("resample", value) for value in (None, "x", 99, [])),
    *((name, value) for name in ("do_normalize", "do_rescale", "do_resize") for value in (None, "yes", 1)),
]


@pytest.mark.parametrize(("name", "value"), WRONG_SETTINGS)
def test_broken_configurations_are_named_when_they_are_read(tmp_path, name, value):
    settings = JointDetrImageProcessor().to_dict() | {name: value}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=f"`{name}` must "):
        JointDetrImageProcessor.from_pretrained(tmp_path)


def test_settings_that_are_not_used_may_be_null():
    processor = JointDetrImageProcessor(do_normalize=False, image_mean=None, do_rescale=False, rescale_factor=None)
    assert processor(np.full((9, 9, 3), 7, np.uint8), return_tensors="pt")["pixel_values"].max() == 7


@pytest.mark.parametrize("kind", ["np", None, "lists"])
def test_arrays_and_lists_reach_the_post_processing(processor, kind):
    image, boxes = np.zeros((90, 70, 3), np.uint8), [[4.0, 6.0, 50.0, 80.0]]
    inputs = processor(image, boxes=boxes, intrinsics=np.diag([500.0, 500, 1]), return_tensors="pt")
    outputs = JointDetrPoseEstimationOutput(
        logits=torch.randn(1, 20, 18), pred_joints=torch.randn(1, 20, 3) * 300, pred_points=torch.rand(1, 20, 2)
    )
    expected = processor.post_process_pose_estimation(outputs, inputs, threshold=0.0)
    other = processor(
        image, boxes=boxes, intrinsics=np.diag([500.0, 500, 1]), return_tensors=None if kind != "np" else kind
    )
    if kind == "lists":
        other = {name: np.asarray(values).tolist() for name, values in other.items()}
    found = processor.post_process_pose_estimation(outputs, other, threshold=0.0)
    for name, values in expected[0][0].items():
        torch.testing.assert_close(found[0][0][name], values, equal_nan=True)
    if kind == "np":
        with pytest.raises(ValueError, match='got ndarray: ask for `return_tensors="pt"`'):
            other.to(torch.float16)


JOINTS_3D = [[0.0, 0, 3000], [100, 0, 3000], [0, -200, 2900]]
JOINTS_2D = [[16.0, 12], [20, 12], [16, 4]]


def test_annotations_become_labels_of_each_crop(colours):
    processor = JointDetrImageProcessorPil(size={"height": 64, "width": 32}, box_padding=1.0, root_joint=1)
    person = {"joints_3d": JOINTS_3D, "joints_2d": JOINTS_2D, "visible": [True, False, True]}
    doubtful = {"joints_3d": [[0.0, 0, 0], [np.nan] * 3, [1, 1, 1]], "joints_2d_valid": [True, False, True]}
    annotations = [[person, doubtful | {"joints_2d": JOINTS_2D}], [{"nobody": True}]]
    inputs = processor(
        [colours] * 2, boxes=[[[8, 4, 16, 16], [12, 4, 8, 16]], None], annotations=annotations, return_tensors="pt"
    )
    whole, unrooted, nobody = inputs["labels"]
    assert whole["joints_3d"].tolist() == [[-100, 0, 0], [0, 0, 0], [-100, -200, -100]]
    torch.testing.assert_close(whole["joints_2d"], torch.tensor([[0.5, 0.5], [0.75, 0.5], [0.5, 0.25]]))
    assert whole["joints_3d_valid"].all() and whole["joints_2d_valid"].all()
    assert whole["visible"].tolist() == [True, False, True] and not whole["nobody"]
    assert not unrooted["joints_3d_valid"].any() and unrooted["joints_3d"].isnan().all()  # relative to what?
    assert unrooted["joints_2d_valid"].tolist() == [True, False, True] and unrooted["joints_2d"][1].isnan().all()
    assert nobody.keys() == {"nobody"} and nobody["nobody"]


def test_the_loss_takes_the_labels_as_they_are(tiny_model_folder, colours):
    model = AutoModelForPoseEstimation.from_pretrained(tiny_model_folder)
    processor = JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)
    person = {"joints_3d": np.random.default_rng(0).normal(size=(17, 3)) * 300, "joints_2d": np.full((17, 2), 10.0)}
    inputs = processor(colours, annotations=person, return_tensors="pt")
    assert model(**inputs).loss.isfinite()
    cast = inputs.to(torch.bfloat16)
    assert cast["pixel_values"].dtype == torch.bfloat16
    assert cast["labels"][0]["joints_3d"].dtype == torch.float32
    people = processor.post_process_pose_estimation(model.bfloat16()(**cast), cast)
    assert len(people) == len(people[0]) == 1


def test_labels_turn_with_the_crop(colours):
    """The camera that the crop implies sees the labels in 3D where those in 2D are."""
    processor = JointDetrImageProcessorPil(size={"height": 64, "width": 64})
    camera = np.array([[40.0, 0, 16], [0, 40, 12], [0, 0, 1]])
    joints = np.random.default_rng(0).normal(size=(17, 3)) * 300 + [0, 0, 3000]
    points = joints @ camera.T
    inputs = processor(
        [colours],
        boxes=[[[4, 2, 20, 18]]],
        intrinsics=[camera],
        turns=[[0.7]],
        annotations=[[{"joints_3d": joints, "joints_2d": points[:, :2] / points[:, 2:]}]],
        return_tensors="pt",
    )
    label = inputs["labels"][0]
    turn = np.array([[np.cos(0.7), np.sin(0.7), 0], [-np.sin(0.7), np.cos(0.7), 0], [0, 0, 1]])
    expected = (joints - joints[0]) @ turn.T
    np.testing.assert_allclose(label["joints_3d"], expected, atol=1e-3)
    seen = project(torch.from_numpy(joints), inputs["crop_intrinsics"][0].double())
    torch.testing.assert_close(label["joints_2d"].double() * 64, seen, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([[{}]], r"`annotations\[0\]\[0\]` must have `joints_3d`, `joints_2d` or `nobody`, got \[\]"),
        ([[]], r"`annotations\[0\]` must have one entry for each of the 1 people, got 0"),
        ([], "`annotations` must have one entry for each of the 1 pictures, got 0"),
        ([["person"]], r"`annotations\[0\]` must be a list of one dictionary for each person"),
        ([[{"joints_2d": [1.0, 2]}]], r"`annotations\[0\]\[0\].joints_2d` must have shape \(2, 2\), got \(2,\)"),
        (
            [[{"joints_3d": JOINTS_3D, "joints_2d": JOINTS_2D[:2]}]],
            r"joints_2d` must have shape \(3, 2\), got \(2, 2\)",
        ),
        ([[{"joints_3d": [["a"] * 3]}]], "must be an array of numbers"),
    ],
)
def test_annotations_that_cannot_be_right_are_refused(processor, colours, annotations, message):
    with pytest.raises(ValueError, match=message):
        processor([colours], annotations=annotations)


def test_the_root_must_be_a_joint_of_the_annotation(processor, colours):
    with pytest.raises(ValueError, match="`root_joint` must be one of the 3 joints of `annotations.*`, got 14"):
        processor(colours, annotations={"joints_3d": JOINTS_3D}, root_joint=14)
    with pytest.raises(ValueError, match="`root_joint` must be the number of a joint, got -1"):
        processor(colours, annotations={"joints_3d": JOINTS_3D}, root_joint=-1)
