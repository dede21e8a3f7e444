"""From what a source says about a person to a whole row of a pose dataset: defaults, masks, NaN, the encoded picture.

Shape vocabulary: `joints` (J) of the skeleton. Millimetres in camera axes (x right, y down, z forward), px of the
picture.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from PIL import Image

from ..picture_jointdetr import DECODING_ERRORS, load_picture, upright_size
from ..skeleton_jointdetr import Skeleton
from .schema import NOBODY, pose_features

SKELETON_COLUMNS = ("joints_3d", "joints_3d_valid", "skeleton", "subject", "action", "frame")
LABEL_COLUMNS = tuple(name for name in pose_features(nobody=True) if name != "image")
BOX_PADDING = 0.1


class Problem(NamedTuple):
    """Why a row is left out: `reason` is the same for all rows with it, `detail` says what this one has."""

    reason: str
    detail: str = ""


class RowError(ValueError):
    """A row that cannot be completed; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(": ".join(problem))
        self.problem = problem


def skeleton_features(num_joints: int = 17) -> datasets.Features:
    """Features of a row of a dataset of skeletons without pictures, the food of the refinement network.

    They are a part of `pose_features`: `joints_3d` (J, 3) mm, `joints_3d_valid` (J), `skeleton`, `subject`, `action`
    and `frame`. Positions are relative to the skeleton's root, in the axes of a level camera: y down. Which way a
    person faces is of no meaning, as training turns skeletons about the vertical.
    """
    features = pose_features(num_joints)
    return datasets.Features({name: features[name] for name in SKELETON_COLUMNS})


def complete_row(labels: Mapping[str, Any], skeleton: Skeleton) -> dict[str, Any]:
    """Fill in what a source does not say.

    Args:
        labels: columns of `pose_features`, all optional but `image`, in any array type. Left out, `joints_3d` and
            `joints_2d` are unknown, their `_valid` masks are where they are finite, `visible` is where a 2D label lies
            inside the picture, `intrinsics` is NaN (unknown), `box` is the extent of the 2D labels widened by a tenth,
            texts are empty, `frame` is -1 and `nobody` is false.
        skeleton: of the joints.

    Returns:
        All columns of `pose_features` as arrays, `nobody` too, NaN where a label is not valid, and `picture_size`
        (width, height).

    Raises:
        RowError: A column is of the wrong shape, or the picture cannot be read.
        ValueError: A column is unknown.
    """
    _require_known(labels, ("image", *LABEL_COLUMNS))
    image = encode_picture(labels.get("image"))
    row = {"image": image, "picture_size": _picture_size(image)}
    row |= _joints(labels, skeleton, "joints_3d", 3) | _joints(labels, skeleton, "joints_2d", 2)
    inside = row["joints_2d_valid"] & is_inside(row["joints_2d"], row["picture_size"])
    visible = _array({"visible": inside, **labels}, "visible", (len(skeleton.joints),), bool)
    row["visible"] = visible & (inside | ~row["joints_2d_valid"])  # nobody sees what lies beside the picture
    row["intrinsics"] = _array({"intrinsics": np.full((3, 3), np.nan), **labels}, "intrinsics", (3, 3))
    row["box"] = _array({"box": _extent(row), **labels}, "box", (4,))
    row[NOBODY] = bool(labels.get(NOBODY, False))
    return row | _texts(labels, skeleton, ("subject", "action", "camera"))


def is_inside(points: np.ndarray, picture_size: tuple[int, int]) -> np.ndarray:
    """Which points `(joints, 2)` px lie inside a picture of (width, height): `(joints,)`; NaN does not."""
    return ((points >= 0) & (points < picture_size)).all(axis=-1)


def complete_skeleton_row(labels: Mapping[str, Any], skeleton: Skeleton) -> dict[str, Any]:
    """Fill in what a source of skeletons does not say, as `complete_row` does; the root becomes the origin."""
    _require_known(labels, SKELETON_COLUMNS)
    row = _joints(labels, skeleton, "joints_3d", 3)
    row["joints_3d"] = row["joints_3d"] - row["joints_3d"][skeleton.root]
    return row | _texts(labels, skeleton, ("subject", "action"))


def encode_picture(image: Image.Image | bytes | str | Path | None, quality: int = 90) -> dict[str, bytes | None]:
    """Return a picture as `datasets.Image` stores it: a file's bytes as they are, a `PIL` picture as upright JPEG.

    Raises:
        RowError: The file cannot be read, or it is no picture at all.
    """
    if isinstance(image, Image.Image):
        stream = BytesIO()
        load_picture(image, "image").save(stream, "JPEG", quality=quality)
        return {"bytes": stream.getvalue(), "path": None}
    if isinstance(image, str | Path):
        try:
            return {"bytes": Path(image).read_bytes(), "path": None}
        except FileNotFoundError as error:
            raise RowError(Problem("the picture does not exist", str(image))) from error
        except OSError as error:
            raise RowError(Problem("the picture cannot be read", str(error))) from error
    if not isinstance(image, bytes):
        raise ValueError(f"`image` must be a PIL picture, the bytes of a file or its path, got {type(image).__name__}")
    return {"bytes": image, "path": None}


def _picture_size(image: dict[str, bytes | None]) -> tuple[int, int]:
    """Read the upright width and height from a picture's header."""
    try:
        with Image.open(BytesIO(image["bytes"])) as picture:
            return upright_size(picture)
    except DECODING_ERRORS as error:
        raise RowError(Problem("the picture cannot be read", str(error))) from error


def _require_known(labels: Mapping[str, Any], columns: tuple[str, ...]) -> None:
    """Refuse columns that would be lost."""
    unknown = sorted(set(labels) - set(columns))
    if unknown:
        raise ValueError(f"a row may have the columns {sorted(columns)}, got {unknown} too")


def _array(labels: Mapping[str, Any], name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Return a column as an array of its shape."""
    array = np.asarray(labels[name], dtype=dtype)
    if array.shape != shape:
        raise RowError(Problem(f"`{name}` is of the wrong shape", f"expected {shape}, got {array.shape}"))
    return array


def _joints(labels: Mapping[str, Any], skeleton: Skeleton, name: str, channels: int) -> dict[str, np.ndarray]:
    """Labels and their mask; what is not valid is NaN."""
    num_joints = len(skeleton.joints)
    joints = _array({name: np.full((num_joints, channels), np.nan), **labels}, name, (num_joints, channels))
    finite = np.isfinite(joints).all(axis=-1)
    valid = _array({f"{name}_valid": finite, **labels}, f"{name}_valid", (num_joints,), bool)
    return {name: np.where(valid[:, None], joints, np.float32(np.nan)), f"{name}_valid": valid}


def _extent(row: Mapping[str, Any]) -> np.ndarray:
    """Box around the 2D labels, widened on each side by a tenth of its longer one: x, y, width, height."""
    points = row["joints_2d"][row["joints_2d_valid"]]
    if not len(points):
        return np.full(4, np.nan)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = BOX_PADDING * (high - low).max()
    return np.concatenate([low - margin, high - low + 2 * margin])


def _texts(labels: Mapping[str, Any], skeleton: Skeleton, names: tuple[str, ...]) -> dict[str, str | int]:
    """Where the row comes from."""
    texts = {name: str(labels.get(name, "")) for name in names}
    return texts | {"skeleton": skeleton.name, "frame": int(labels.get("frame", -1))}
