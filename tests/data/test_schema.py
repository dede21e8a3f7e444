"""The row of a pose dataset."""

import io

import datasets
import numpy as np
from PIL import Image

from jointdetr.data.schema import pose_features


def png(pixels: np.ndarray) -> dict:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def test_rows_survive_parquet(tmp_path):
    rng = np.random.default_rng(0)
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
    }
    features = pose_features(num_joints=5)
    datasets.Dataset.from_list([row], features=features).to_parquet(tmp_path / "rows.parquet")
    files = {"train": str(tmp_path / "rows.parquet")}
    read = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert read.features == features
    for name in ("joints_3d", "joints_3d_valid", "joints_2d", "visible", "box", "frame"):
        np.testing.assert_array_equal(read[0][name], row[name])
    assert read[0]["image"].size == (32, 32)
