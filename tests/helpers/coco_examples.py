"""A small data set in COCO's format."""

import json
from pathlib import Path

import numpy as np
from conversion_examples import jpeg

from jointdetr.skeleton_jointdetr import COCO


def annotation(number: int, picture: int, labelled: int = 17, **changes) -> dict:
    keypoints = np.zeros((17, 3), dtype=int)
    for joint in range(labelled):
        keypoints[joint] = (20 + 4 * joint, 100 - 3 * joint, 1 + joint % 2)
    return {
        "id": number,
        "image_id": picture,
        "category_id": 1,
        "iscrowd": 0,
        "area": 500.0,
        "segmentation": [],
        "bbox": [10.5, 20.0, 90.0, 100.0],
        "num_keypoints": labelled,
        "keypoints": keypoints.ravel().tolist(),
    } | changes


def write_source(folder: Path, annotations: list[dict], split: str = "val2017", pictures: int = 3) -> Path:
    content = {
        "info": {"year": 2017},
        "licenses": [],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.joints), "skeleton": [[16, 14]]}],
        "images": [
            {"id": 100 + number, "file_name": f"{100 + number:012d}.jpg", "width": 128, "height": 128}
            for number in range(pictures)
        ],
        "annotations": annotations,
    }
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / split).mkdir(exist_ok=True)
    (folder / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
    for number in range(pictures):
        (folder / split / f"{100 + number:012d}.jpg").write_bytes(jpeg(number))
    return folder


PEOPLE = [
    annotation(7, 101),
    annotation(8, 100),
    annotation(9, 101, labelled=5),
    annotation(10, 102, labelled=0),
    annotation(11, 102, iscrowd=1),
]
