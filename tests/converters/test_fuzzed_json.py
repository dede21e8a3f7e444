"""Wrong types in the JSON of every converter: rows, or one line that names file and field, never a traceback."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_examples import PEOPLE, write_source
from conversion_examples import INTRINSICS, jpeg, person, project
from panoptic_examples import write_sequence

from jointdetr.converters.coco import CocoKeypoints
from jointdetr.converters.conversion import CheckedRows, Converter, RecordingError, _chosen
from jointdetr.converters.folder import Folder
from jointdetr.converters.panoptic import Panoptic

WRONG = (
    *(None, True, "", "x", "a\0b", -1, 0, 1.5, 10**30, float("inf"), float("nan")),
    *([], {}, [None], ["x"], [1, "2"], [[1]], [1, [2]], [True] * 4, {"a": 1}, [10**400]),
)


def mutations(content: Any) -> Iterator[tuple[str, Any]]:
    """Copies of a file's content with one value changed or left out, and the field of each."""
    for path in paths(content):
        for value in (*WRONG, "left out"):
            changed = copy.deepcopy(content)
            place = changed
            for key in path[:-1]:
                place = place[key]
            if value != "left out":
                place[path[-1]] = value
            elif isinstance(place, dict):
                del place[path[-1]]
            else:
                continue
            yield next(str(key) for key in reversed(path) if isinstance(key, str)), changed


def paths(content: Any) -> Iterator[tuple]:
    """The way to every field, and to the first entry of every list."""
    entries = content.items() if isinstance(content, dict) else list(enumerate(content))[:1]
    for key, value in entries:
        yield (key,)
        if isinstance(value, dict | list):
            yield from ((key, *rest) for rest in paths(value))


def complaints(converter: Converter) -> list[str]:
    """The errors of a conversion, without writing anything, and lines that are left out for what is in them."""
    found = []
    try:
        skeleton, recordings = converter.skeleton, _chosen(converter.recordings(), None)
        checked = [CheckedRows(converter, skeleton, recording) for recording in recordings]
    except ValueError as error:
        return [str(error)]
    for recording in checked:
        try:
            list(recording.rows())
        except RecordingError as error:
            found.append(str(error))
        for reason, refusals in recording.report.skipped.items():
            found += refusals.examples if reason.startswith("a line") else []
    return found


def require_calm(
    file: Path, content: Any, make: Callable[[], Converter], write: Callable[[Any], str] = json.dumps
) -> int:
    """Try all mutations; what fails must be one line that names file and field. Returns how many failed."""
    failed = 0
    for field, changed in mutations(content):
        file.write_text(write(changed))
        for text in complaints(make()):
            failed += 1
            if text == "the source has no recordings":  # the command names the source
                continue
            assert "\n" not in text and len(text) < 1000, (field, text)
            assert field in text and (file.name in text or "size of the calibration" in text), (field, text)
    return failed


def test_coco(tmp_path):
    source = write_source(tmp_path, PEOPLE[:2], pictures=2)
    file = source / "annotations" / "person_keypoints_val2017.json"
    assert require_calm(file, json.loads(file.read_text()), lambda: CocoKeypoints(source)) >= 50


def test_folder(tmp_path):
    joints = person(0)
    line = {
        "image": "0.jpg",
        "joints_3d": joints.tolist(),
        "joints_2d": project(joints).tolist(),
        "visible": [True] * 17,
        "intrinsics": INTRINSICS.tolist(),
        "extrinsics": np.eye(4).tolist(),
        "box": [30, 10, 70, 110],
        "subject": "me",
        "action": "walk",
        "camera": "phone",
        "frame": 3,
        "split": "train",
    }
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    good = json.dumps(line)
    count = require_calm(
        tmp_path / "annotations.jsonl",
        line,
        lambda: Folder(tmp_path),
        lambda changed: f"{good}\n{json.dumps(changed)}\n",
    )
    assert count >= 50


def test_skeleton(tmp_path):
    skeleton = {"name": "pair", "joints": ["a", "b"], "parents": [None, "a"], "flip_pairs": [], "root": "a"}
    (tmp_path / "annotations.jsonl").write_text(json.dumps({"joints_3d": [[0, 0, 0], [0, 400, 0]]}) + "\n")
    assert require_calm(tmp_path / "skeleton.json", skeleton, lambda: Folder(tmp_path)) >= 50


@pytest.mark.parametrize("part", ["calibration", "scene"])
def test_panoptic(tmp_path, part):
    folder = write_sequence(tmp_path, frames=1)
    sequence = next(iter(folder.glob("*/calibration_*.json")), None) or next(folder.glob("calibration_*.json"))
    scene = min(sequence.parent.rglob("body3DScene_*.json"))
    file = {"calibration": sequence, "scene": scene}[part]
    content = json.loads(file.read_text())
    if part == "calibration":
        content["cameras"] = [camera for camera in content["cameras"] if camera["name"] == "00_16"]
    assert require_calm(file, content, lambda: Panoptic(tmp_path, step=1)) >= 50


@pytest.mark.parametrize("text", ["[" * 100000, '{"images": ' + "[" * 100000, "\udcff", "nul", "\ufeff{"])
def test_files_that_are_no_json_are_named(tmp_path, text):
    write_source(tmp_path, PEOPLE[:1])
    file = tmp_path / "annotations" / "person_keypoints_val2017.json"
    file.write_text(text, errors="surrogateescape")
    (tmp_path / "annotations.jsonl").write_text(text, errors="surrogateescape")
    assert file.name in complaints(CocoKeypoints(tmp_path))[0]
    assert "annotations.jsonl" in complaints(Folder(tmp_path))[0]
