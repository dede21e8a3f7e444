"""CMU Panoptic: calibration, skeletons, films and pictures as the panoptic toolbox lays them out."""

import json
from pathlib import Path

import numpy as np
import pytest
from conversion_examples import jpeg
from panoptic_examples import (
    DISTORTION,
    INTRINSICS,
    ROTATION,
    SIZE,
    TRANSLATION_CM,
    calibration,
    person_dome,
    scene,
    write_sequence,
)

from jointdetr.converters.conversion import convert
from jointdetr.converters.panoptic import Panoptic, read_bodies, read_camera
from jointdetr.converters.reading import Lens
from jointdetr.data.loading import load_pose_dataset


def write_film(path: Path, frames: int, size: tuple[int, int] = SIZE) -> None:
    import av

    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), 20 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def expected_camera_mm(frame: int, shift_cm: float = 0.0) -> np.ndarray:
    return 10 * (ROTATION @ person_dome(frame, shift_cm).T + TRANSLATION_CM).T


def test_the_lens_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 2))
    expected, _ = cv2.projectPoints(
        np.column_stack([points, np.ones(50)]), np.zeros(3), np.zeros(3), np.eye(3), np.array(DISTORTION)
    )
    k1, k2, p1, p2, k3 = DISTORTION
    np.testing.assert_allclose(Lens((k1, k2, k3), (p1, p2))(points), expected[:, 0], atol=1e-12)


def test_sequences_become_rows(tmp_path):
    cv2 = pytest.importorskip("cv2")
    write_sequence(tmp_path / "panoptic")
    report = convert(Panoptic(tmp_path / "panoptic", step=2), tmp_path / "out")
    assert report.rows == {"test": 4} and not report.failed and not report.skipped
    assert report.reprojection_px["max"] < 0.5  # the pinhole that comes closest to the lens
    rows = load_pose_dataset(tmp_path / "out", "test")
    assert rows["frame"][:] == [0, 0, 2, 2] and rows["subject"][:] == ["0", "3", "0", "3"]
    assert (rows[0]["skeleton"], rows[0]["action"], rows[0]["camera"]) == ("panoptic", "160906_pizza1", "00_16")
    np.testing.assert_allclose(rows[3]["joints_3d"], expected_camera_mm(2, 60), atol=0.01)
    dome = person_dome(2, 60)
    turn, _ = cv2.Rodrigues(ROTATION)
    seen, _ = cv2.projectPoints(dome, turn, TRANSLATION_CM, INTRINSICS, np.array(DISTORTION))
    np.testing.assert_allclose(rows[3]["joints_2d"], seen[:, 0], atol=0.01)


def test_a_single_sequence_and_its_films(tmp_path):
    sequence = write_sequence(tmp_path)
    write_film(sequence / "hdVideos" / "hd_00_03.mp4", 4)
    converter = Panoptic(sequence, step=3)
    assert [(entry.name, entry.split) for entry in converter.recordings()] == [
        ("160906_pizza1-00_03", "train"),
        ("160906_pizza1-00_16", "test"),
    ]
    report = convert(converter, tmp_path / "out")
    assert report.rows == {"train": 4, "test": 4} and not report.failed
    rows = load_pose_dataset(tmp_path / "out", "train")
    shades = [np.array(image).mean() for image in rows["image"]]
    np.testing.assert_allclose(shades, [0, 0, 60, 60], atol=6)  # pictures are those of their frames
    only = Panoptic(sequence, cameras=("00_03",)).recordings()
    assert [entry.data for entry in only] == ["00_03"]


def test_joints_without_confidence_are_not_known(tmp_path):
    sequence = write_sequence(tmp_path / "in", frames=1)
    values = scene({0: person_dome(0)})
    values["bodies"][0]["joints19"][3] = -1.0
    (sequence / "hdPose3d_stage1_coco19" / "body3DScene_00000000.json").write_text(json.dumps(values))
    convert(Panoptic(sequence), tmp_path / "out")
    row = load_pose_dataset(tmp_path / "out", "test")[0]
    assert row["joints_3d_valid"] == [False] + [True] * 18 and row["joints_2d_valid"] == [False] + [True] * 18


def test_people_out_of_view_are_left_out(tmp_path):
    sequence = write_sequence(tmp_path / "in", frames=2)
    scenes = sequence / "hdPose3d_stage1_coco19"
    behind = person_dome(0) - [0, 0, 900]
    (scenes / "body3DScene_00000000.json").write_text(json.dumps(scene({0: person_dome(0), 1: behind, 2: behind})))
    (scenes / "body3DScene_00000001.json").unlink()
    report = convert(Panoptic(sequence, step=1), tmp_path / "out")
    assert report.rows == {"test": 1} and not report.failed
    assert report.skipped["a person out of the camera's view"].count == 2
    assert "frame 1" in report.skipped["no skeletons for this frame"].examples[0]


def test_millimetres_are_noticed(tmp_path):
    sequence = write_sequence(tmp_path / "in", frames=1)
    values = scene({0: person_dome(0) * 10 + [0, 0, 2000]})
    (sequence / "hdPose3d_stage1_coco19" / "body3DScene_00000000.json").write_text(json.dumps(values))
    report = convert(Panoptic(sequence), tmp_path / "out")
    assert not sum(report.rows.values()) and ("out of the camera's view" in str(report) or "bones" in str(report))


def break_scene(sequence: Path, text: str) -> None:
    (sequence / "hdPose3d_stage1_coco19" / "body3DScene_00000000.json").write_text(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a JSON file, got a broken one"),
        ("[]", "expected a JSON object"),
        (
            '{"bodies": [{"id": 0, "joints15": [1, 2]}]}',
            r"entry 0 of `bodies`: `joints19` must be numbers of shape \(76,\), got None",
        ),
        (
            '{"bodies": [{"id": 0, "joints19": [1, 2]}]}',
            r"entry 0 of `bodies`: `joints19` must be numbers of shape \(76,\), got \[1, 2\]",
        ),
    ],
)
def test_broken_scenes_are_named(tmp_path, text, message):
    sequence = write_sequence(tmp_path)
    break_scene(sequence, text)
    with pytest.raises(ValueError, match=f"body3DScene_00000000.json.*{message}"):
        read_bodies(sequence / "hdPose3d_stage1_coco19" / "body3DScene_00000000.json")
    report = convert(Panoptic(sequence), tmp_path / "out")
    assert "body3DScene_00000000.json" in report.failed["test-160906_pizza1-00_16"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("K", [[1, 2], [3, 4]], r"entry 1 of `cameras`: `K` must be numbers of shape \(3, 3\)"),
        ("t", [[1.0], [2.0], [float("nan")]], r"`t` must be finite numbers"),
        ("name", "00_99", "must have a camera with the `name` '00_16' among `cameras`, got "),
    ],
)
def test_broken_calibrations_are_named(tmp_path, key, value, message):
    content = calibration()
    content["cameras"][1][key] = value
    path = tmp_path / "calibration_a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"calibration_a.json.*{message}"):
        read_camera(path, "00_16")


def test_pictures_of_another_size_are_refused(tmp_path):
    sequence = write_sequence(tmp_path)
    (sequence / "hdImgs" / "00_16" / "00_16_00000000.jpg").write_bytes(jpeg(0, (96, 54)))
    report = convert(Panoptic(sequence), tmp_path / "out")
    assert "size of the calibration, (192, 108), got (96, 54)" in report.failed["test-160906_pizza1-00_16"]


def test_a_film_that_is_none_fails_alone(tmp_path):
    sequence = write_sequence(tmp_path / "in")
    (sequence / "hdVideos").mkdir()
    (sequence / "hdVideos" / "hd_00_03.mp4").write_bytes(b"no film")
    report = convert(Panoptic(sequence), tmp_path / "out")
    assert report.rows == {"train": 0, "test": 2}
    assert "hd_00_03.mp4: expected a film" in report.failed["train-160906_pizza1-00_03"]


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must hold calibration_NAME\.json"):
        Panoptic(tmp_path).recordings()
    sequence = write_sequence(tmp_path)
    with pytest.raises(ValueError, match=r"must have films as .* of the cameras 00_77"):
        Panoptic(sequence, cameras=("00_77",)).recordings()
    renamed = Panoptic(sequence.rename(tmp_path / "pizza"))
    with pytest.raises(ValueError, match="calibration_pizza.json"):  # which has another name
        list(renamed.rows(renamed.recordings()[0]))
