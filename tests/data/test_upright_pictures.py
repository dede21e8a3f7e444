"""Pictures that EXIF turns: labels are of the upright picture, and whatever asks for a size means that one."""

import io
import json

import numpy as np
import pytest
from panoptic_examples import write_sequence
from PIL import ExifTags, Image, ImageOps

from jointdetr.converters.conversion import convert
from jointdetr.converters.folder import Folder
from jointdetr.converters.panoptic import Panoptic
from jointdetr.converters.report import draw_row
from jointdetr.data.loading import load_pose_dataset
from jointdetr.data.rows import encode_picture
from jointdetr.picture_jointdetr import load_picture, upright_size
from jointdetr.skeleton_jointdetr import HUMAN36M

SIZE = (60, 100)  # width and height of the upright picture


def stored(orientation: int, kind: str = "JPEG") -> bytes:
    """A picture that is `SIZE` when it is looked at, red at its top."""
    upright = Image.new("RGB", SIZE, (20, 90, 20))
    upright.paste((230, 20, 20), (0, 0, SIZE[0], 20))
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}
    undo |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    undo |= {5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE}
    bitmap = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stream = io.BytesIO()
    bitmap.save(stream, kind, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_header_tells_the_size_of_the_decoded_picture(orientation, kind):
    content = stored(orientation, kind)
    assert upright_size(Image.open(io.BytesIO(content))) == SIZE
    picture = load_picture(Image.open(io.BytesIO(content)))
    assert picture.size == SIZE
    assert picture.getpixel((30, 5))[0] > 150 > picture.getpixel((30, 95))[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_of_the_upright_picture_are_kept_and_drawn(tmp_path, orientation):
    (tmp_path / "phone.jpg").write_bytes(stored(orientation))
    points = np.stack([np.linspace(20, 40, 17), np.linspace(62, 98, 17)], axis=1)  # below a bitmap that lies
    line = {"image": "phone.jpg", "joints_2d": points.tolist(), "box": [15, 61, 30, 38]}
    (tmp_path / "annotations.jsonl").write_text(json.dumps(line) + "\n")
    report = convert(Folder(tmp_path), tmp_path / "out")
    assert report.rows == {"train": 1} and not report.skipped
    row = load_pose_dataset(tmp_path / "out").with_format(None)[0]
    assert all(row["visible"])
    content = {"bytes": (tmp_path / "phone.jpg").read_bytes()}
    assert draw_row({**row, "image": content}, HUMAN36M).size == SIZE


def test_an_opened_picture_is_stored_upright():
    content = encode_picture(Image.open(io.BytesIO(stored(6))))["bytes"]
    picture = Image.open(io.BytesIO(content))
    assert picture.size == ImageOps.exif_transpose(picture).size == SIZE


def test_sizes_of_a_calibration_are_of_the_upright_picture(tmp_path):
    sequence = write_sequence(tmp_path, frames=1)
    calibration = sequence / f"calibration_{sequence.name}.json"
    (sequence / "hdImgs" / "00_16" / "00_16_00000000.jpg").write_bytes(stored(8))
    for size, said in ((SIZE, set()), (SIZE[::-1], {"(100, 60), got (60, 100)"})):
        content = json.loads(calibration.read_text())
        content["cameras"][1]["resolution"] = size
        calibration.write_text(json.dumps(content))
        failures = convert(Panoptic(sequence), tmp_path / f"out-{size[0]}").failed.values()
        assert {failure.partition("size of the calibration, ")[2].partition(";")[0] for failure in failures} == said
