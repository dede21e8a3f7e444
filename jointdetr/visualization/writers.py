"""Poses as tables in files: JSON that explains itself, and NPZ for NumPy.

Shape vocabulary: people, joints. Positions are millimetres in camera axes (x right, y down, z forward), pixels in 2D.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..motion import skeleton_to_dict
from ..skeleton_jointdetr import Skeleton

FIELDS = {
    "frame": "number of the film's frame, from 0",
    "time_s": "seconds since the film began",
    "person": "number of the person, the same in all frames",
    "joints": "mm, relative to the root joint, camera axes: x right, y down, z forward",
    "joints_camera": "mm, from the camera's centre, camera axes: x right, y down, z forward",
    "joints_world": "mm, in the world that the camera's extrinsics come from",
    "joints_2d": "px of the picture, from its top left corner",
    "scores": "probability of the joint's class, 0 to 1",
    "detected": "false: the joint was not found, its position is a guess or missing (null)",
    "sigmas": "mm, how far off the joint is expected to be",
    "visible": "probability that the joint is not hidden, 0 to 1",
    "inside": "true: the joint lies within the picture; with `detected` false it is hidden there or overlooked",
    "residual_px": "px, root mean square distance between the joints projected by the camera and `joints_2d`",
    "intrinsics_guessed": "true: `joints_camera` stands on a guessed field of view, depths are off by its factor",
    "box": "px of the picture: x, y, width, height",
}


def write_json(
    people: Sequence[Mapping[str, Any]],
    path: str | Path,
    skeleton: Skeleton,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write poses as JSON, with units, axes and skeleton beside the numbers; NaN becomes null.

    Args:
        people: One mapping a person, with the keys of `FIELDS` as far as they are there; of a film one for each
            person in each frame, as [`motion_rows`] gives them.
        path: File to write.
        skeleton: Names and parents of the joints.
        about: More entries for the head of the file, such as the picture's and the model's name.
    """
    fields = [name for name in FIELDS if any(name in person for person in people)]
    document = {
        **(about or {}),
        "fields": {name: FIELDS[name] for name in fields},
        "skeleton": skeleton_to_dict(skeleton),
        "people": [{name: _to_json(person[name]) for name in fields if name in person} for person in people],
    }
    Path(path).write_text(_layout(document) + "\n", encoding="utf-8")


def write_npz(people: Sequence[Mapping[str, Any]], path: str | Path, skeleton: Skeleton) -> None:
    """Write poses as a NumPy archive: each field stacked over the people, with the joints' names and parents.

    Args:
        people: As for [`write_json`]; every person must have the same fields.
        path: File to write. `numpy.load(path)` reads it, without pickle.
        skeleton: Names and parents of the joints.

    Raises:
        ValueError: The people have different fields.
    """
    names = [{name for name in FIELDS if name in person} for person in people]
    if any(other != names[0] for other in names):
        raise ValueError(f"All people must have the same fields, got {[sorted(fields) for fields in names]}.")
    fields = [name for name in FIELDS if people and name in names[0]]
    arrays = {name: np.stack([_to_numpy(person[name]) for person in people]) for name in fields}
    described = {
        "skeleton_name": np.array(skeleton.name),
        "joint_names": np.array(skeleton.joints),
        "parents": np.array(skeleton.parents),
        "flip_pairs": np.array(skeleton.flip_pairs, dtype=int).reshape(-1, 2),
        "root": np.array(skeleton.root),
    }
    with open(path, "wb") as file:
        np.savez_compressed(file, **described, **arrays)


def _to_numpy(values: Any) -> np.ndarray:
    return torch.as_tensor(values).detach().cpu().numpy()


def _to_json(values: Any) -> Any:
    """Nested lists with numbers rounded to what the model can mean, and None for NaN."""
    if isinstance(values, float):
        return None if math.isnan(values) else round(values, 4)
    if isinstance(values, (list, tuple)):
        return [_to_json(value) for value in values]
    if isinstance(values, (bool, int)):
        return values
    return _to_json(_to_numpy(values).tolist())


def _layout(value: Any, indent: str = "") -> str:
    """JSON with one line per entry of a mapping and per row of a table, readable and still small."""
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        rows = [f"{inner}{json.dumps(key)}: {_layout(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], (list, Mapping)):
        return "[\n" + ",\n".join(inner + _layout(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
