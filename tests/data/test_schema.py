"""The row of a pose dataset."""

import io

import datasets
import numpy as np
from PIL import Image

from jointdetr.data.schema import (
    DEPTH_MAP_OFFSET,
    PART_FLIP_PAIRS,
    PART_NAMES,
    decode_depth_map,
    encode_depth_map,
    pose_features,
)


def png(pixels: np.ndarray) -> dict:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def test_depth_map_survives_encoding():
    depth = np.array([[0.0, -300.4], [1200.6, 5.0]])
    person = np.array([[True, True], [True, False]])
    stored = encode_depth_map(depth, person)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, [[DEPTH_MAP_OFFSET, DEPTH_MAP_OFFSET - 300], [DEPTH_MAP_OFFSET + 1201, 0]])
    np.testing.assert_array_equal(decode_depth_map(stored), [[0, -300], [1201, np.nan]])


def test_depth_map_clamps_far_surfaces_and_ignores_values_off_the_person():
    depth = np.array([[-1e6, 1e6, np.nan]])
    stored = encode_depth_map(depth, np.array([[True, True, False]]))
    np.testing.assert_array_equal(stored, [[1, 65535, 0]])


def test_part_flip_pairs_exchange_left_and_right():
    for left, right in PART_FLIP_PAIRS:
        assert PART_NAMES[left].replace("left", "right") == PART_NAMES[right]
    paired = {part for pair in PART_FLIP_PAIRS for part in pair}
    assert paired == {index for index, name in enumerate(PART_NAMES) if "left" in name or "right" in name}


def test_rows_survive_parquet(tmp_path):
    rng = np.random.default_rng(0)
    depth = encode_depth_map(rng.normal(0, 200, (8, 8)), rng.random((8, 8)) < 0.5)
    row = {
        "image": png(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)),
        "joints_3d": rng.normal(0, 500, (5, 3)).astype(np.float32),
        "joints_3d_valid": np.array([True, False, True, True, False]),
        "joints_2d": rng.random((5, 2)).astype(np.float32),
        "joints_2d_valid": np.ones(5, bool),
        "visible": np.zeros(5, bool),
        "intrinsics": np.eye(3, dtype=np.float32),
        "box": np.array([1, 2, 3, 4], dtype=np.float32),
        "skeleton": "five",
        "subject": "",
        "action": "",
        "camera": "",
        "frame": 7,
        "part_map": png(rng.integers(0, 16, (8, 8), dtype=np.uint8)),
        "depth_map": png(depth),
    }
    features = pose_features(num_joints=5, dense=True)
    datasets.Dataset.from_list([row], features=features).to_parquet(tmp_path / "rows.parquet")
    files = {"train": str(tmp_path / "rows.parquet")}
    read = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert read.features == features
    for name in ("joints_3d", "joints_3d_valid", "joints_2d", "visible", "box", "frame"):
        np.testing.assert_array_equal(read[0][name], row[name])
    np.testing.assert_array_equal(np.asarray(read[0]["depth_map"]), depth)
