"""Skeletons as JSON files, which a data set of one's own joints carries with it; bones, and the side of each joint.

Joints may be given by name or by index; null or -1 is no parent. docs/custom-skeleton.md has an example.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..skeleton_jointdetr import SKELETONS, Skeleton

KEYS = ("name", "joints", "parents", "flip_pairs", "root")


def find_skeleton(name_or_file: str) -> Skeleton:
    """Return one of `SKELETONS` by its name, or read a file whose name ends with `.json`."""
    if name_or_file.endswith(".json"):
        return read_skeleton(name_or_file)
    if name_or_file not in SKELETONS:
        raise ValueError(f"`skeleton` must be one of {', '.join(SKELETONS)}, or a .json file, got {name_or_file!r}")
    return SKELETONS[name_or_file]


def read_skeleton(path: str | Path) -> Skeleton:
    """Read a skeleton from a JSON file."""
    try:
        return skeleton_from_dict(json.loads(Path(path).read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} must describe a skeleton: {error}") from error


def write_skeleton(skeleton: Skeleton, path: str | Path) -> None:
    """Write a skeleton as JSON, joints by their index, as recipes have it."""
    Path(path).write_text(skeleton_json(skeleton), encoding="utf-8")


def skeleton_json(skeleton: Skeleton) -> str:
    """Return the text of a skeleton's file."""
    entries = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in asdict(skeleton).items())
    return f"{{\n{entries}\n}}\n"


def skeleton_from_dict(values: Any, optional: Collection[str] = ()) -> Skeleton:
    """Make a skeleton of what a file or a recipe says: a mapping with `KEYS`.

    `optional` are keys that may be left out: `name`, and `flip_pairs`, which a shipped skeleton of these joints lends.
    """
    if not isinstance(values, dict) or not set(KEYS) - set(optional) <= set(values) <= set(KEYS):
        found = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"expected the keys {list(KEYS)}, got {found}")
    name, joints = values.get("name", "skeleton"), values["joints"]
    if not isinstance(joints, list | tuple) or not all(isinstance(joint, str) and joint for joint in joints):
        raise ValueError(f"`joints` must be a list of names, got {joints!r}")
    if not isinstance(name, str) or not name:
        raise ValueError(f"`name` must be a text, got {name!r}")
    parents = _indices(joints, values["parents"], "parents")
    pairs = [_indices(joints, pair, "flip_pairs") for pair in _list(values.get("flip_pairs", ()), "flip_pairs")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"`flip_pairs` must be pairs of joints, got {values['flip_pairs']!r}")
    shipped = [known for known in SKELETONS.values() if (known.joints, known.parents) == (tuple(joints), parents)]
    if shipped and not pairs and "flip_pairs" in optional:
        return shipped[0]
    if name in SKELETONS and SKELETONS[name] not in shipped:
        raise ValueError(f"`name` must not be that of another skeleton, got {name!r}")
    return Skeleton(name, tuple(joints), parents, tuple(pairs), *_indices(joints, [values["root"]], "root"))


def bones(skeleton: Skeleton) -> list[tuple[int, int]]:
    """(parent, child) of every joint but the root."""
    return [(parent, child) for child, parent in enumerate(skeleton.parents) if parent >= 0]


def joint_sides(skeleton: Skeleton) -> list[str]:
    """Side of every joint, "left", "right" or "middle"; a pair whose names tell nothing is taken as (right, left)."""
    sides = ["middle"] * len(skeleton.joints)
    for first, second in skeleton.flip_pairs:
        swapped = "left" in skeleton.joints[first].lower()
        sides[first], sides[second] = ("left", "right") if swapped else ("right", "left")
    return sides


def named_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(right, left) of joints whose names differ in that word alone."""
    lefts = [(index, name.replace("right", "left")) for index, name in enumerate(names) if "right" in name]
    return tuple((index, names.index(left)) for index, left in lefts if left in names)


def _indices(joints: list[str], values: Any, key: str) -> tuple[int, ...]:
    """Indices of joints that are given by name or by index; -1 for none."""
    indices = []
    for value in _list(values, key):
        if isinstance(value, str) and value in joints:
            indices.append(joints.index(value))
        elif value is None or isinstance(value, int) and not isinstance(value, bool):
            indices.append(-1 if value is None else value)
        else:
            raise ValueError(f"`{key}` must name joints of `joints`, got {value!r}")
    return tuple(indices)


def _list(values: Any, key: str) -> list:
    if not isinstance(values, list | tuple):
        raise ValueError(f"`{key}` must be a list, got {values!r}")
    return list(values)
