"""Cameras, and the geometry of pictures: projection, affine maps, mirroring, alignment, where a person stands.

Camera axes are x right, y down, z forward, in millimetres. Image points are continuous pixel coordinates: pixel `i`
covers `[i, i + 1)`, its centre is `i + 0.5` (OpenCV counts from 0 there: add 0.5 to the `cx` and `cy` of its
calibrations), and a picture `width` pixels wide spans `[0, width]`. `intrinsics` is the 3x3 camera matrix in pixels,
`affine` the two upper rows of a homogeneous 3x3 matrix that maps image points. Lens distortion is computed by OpenCV.

Shape vocabulary: `...` any batch dimensions, `joints` joints of a skeleton, `points` image points.
"""

import functools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Concatenate, ParamSpec

import numpy as np
import torch

LENS_MODELS = {"brown": (4, 5, 8, 12, 14), "fisheye": (4,)}
"""Names of the lens models, and how many coefficients OpenCV takes for each."""

CAMERA_KEYS = ("intrinsics", "distortion", "extrinsics")
CAMERA_ARGUMENTS = ("camera", *CAMERA_KEYS, "field_of_view")
"""Names under which something may be said of a picture's camera."""

GUESSED_FIELD_OF_VIEW = 60.0
"""Degrees across the longer side, where nothing is known of the camera; most phones and webcams see 50 to 75."""

UNDISTORTION_CRITERIA = (3, 200, 1e-10)  # OpenCV's "whichever comes first" of steps and precision
UNDISTORTION_TOLERANCE_PX = 0.1  # beyond it the lens model has no inverse at that point
ORTHONORMAL_TOLERANCE = 1e-3  # calibrations are printed with few digits
ROBUST_STEPS = 10
# Where the Cauchy loss turns, for 95% efficiency: at 2.385 standard deviations. Of a Gaussian in the plane the median
# length is 1.177 of them.
CAUCHY_SCALE = 2.026


@dataclass(frozen=True)
class Distortion:
    """A lens.

    Args:
        model: `brown` (OpenCV's standard model) or `fisheye` (its fisheye model).
        coefficients: In OpenCV's order: k1, k2, p1, p2, k3 ... for `brown` (4, 5, 8, 12 or 14 of them), k1 to k4 for
            `fisheye`.

    Raises:
        ValueError: An unknown model, or not its number of finite coefficients.
    """

    model: str
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what OpenCV could not use."""
        if self.model not in LENS_MODELS:
            raise ValueError(f"`distortion` must be one of the models {', '.join(LENS_MODELS)}, got {self.model!r}")
        object.__setattr__(self, "coefficients", tuple(float(value) for value in self.coefficients))
        counts = LENS_MODELS[self.model]
        if len(self.coefficients) not in counts or not all(map(math.isfinite, self.coefficients)):
            allowed = " or ".join(map(str, counts))
            raise ValueError(
                f"`distortion` of the model {self.model} must have {allowed} finite coefficients, "
                f"got {list(self.coefficients)}"
            )

    @classmethod
    def from_value(cls, value: "Distortion | Mapping[str, Any] | str") -> "Distortion":
        """Read a lens from `{"model": ..., "coefficients": [...]}` or from `MODEL:K1,K2,...`."""
        if isinstance(value, Distortion):
            return value
        if isinstance(value, str):
            model, _, numbers = value.partition(":")
            value = {"model": model, "coefficients": [number for number in numbers.split(",") if number.strip()]}
        if not isinstance(value, Mapping) or value.keys() != {"model", "coefficients"}:
            raise ValueError(f"`distortion` must have a `model` and its `coefficients`, got {value!r}")
        try:
            return cls(value["model"], tuple(float(number) for number in value["coefficients"]))
        except (TypeError, OverflowError) as error:
            raise ValueError(f"`distortion` must have numbers as coefficients, got {value!r}") from error

    def distort(self, points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
        """Move ideal image points `(points, 2)` to where the lens shows them; NaN stays NaN."""
        cv2 = _opencv()
        result = np.full(points.shape, np.nan)
        known = np.isfinite(points).all(axis=-1)
        if known.any():
            rays = np.concatenate([points[known], np.ones((known.sum(), 1))], axis=-1) @ np.linalg.inv(intrinsics).T
            project = cv2.fisheye.projectPoints if self.model == "fisheye" else cv2.projectPoints
            still = np.zeros(3)
            distorted, _ = project(rays[:, None], still, still, intrinsics, np.array(self.coefficients))
            result[known] = distorted[:, 0]
        return result

    def undistort(self, points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
        """Move image points `(points, 2)` to where an ideal lens would show them; NaN where that is nowhere."""
        cv2 = _opencv()
        result = np.full(points.shape, np.nan)
        known = np.isfinite(points).all(axis=-1)
        if not known.any():
            return result
        seen, coefficients = np.ascontiguousarray(points[known, None]), np.array(self.coefficients)
        if self.model == "fisheye":
            ideal = cv2.fisheye.undistortPoints(
                seen, intrinsics, coefficients, P=intrinsics, criteria=UNDISTORTION_CRITERIA
            )
        else:
            ideal = cv2.undistortImagePoints(seen, intrinsics, coefficients, arg1=UNDISTORTION_CRITERIA)
        result[known] = ideal[:, 0]
        error = np.linalg.norm(self.distort(result, intrinsics) - points, axis=-1)
        result[~(error < UNDISTORTION_TOLERANCE_PX)] = np.nan
        return result


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera that took a picture.

    Args:
        intrinsics: `(3, 3)` camera matrix in px of the upright picture.
        distortion: The lens; None for an ideal one.
        extrinsics: `(3, 4)` rotation and translation from the world to the camera, in mm; `(4, 4)` is taken too.
            None where the world is of no interest.
        guessed: Whether the intrinsics are a guess, not a calibration.

    Raises:
        ValueError: Intrinsics with a focal length of zero, singular or not finite; extrinsics that are no rotation
            and translation; a skewed camera with a lens, which OpenCV does not know.
    """

    intrinsics: np.ndarray
    distortion: Distortion | None = None
    extrinsics: np.ndarray | None = None
    guessed: bool = False

    def __post_init__(self) -> None:
        """Take lists as arrays and refuse what is no camera."""
        object.__setattr__(self, "intrinsics", validate_intrinsics(self.intrinsics))
        if self.distortion is not None:
            object.__setattr__(self, "distortion", Distortion.from_value(self.distortion))
            if self.intrinsics[0, 1] != 0 or self.intrinsics[1, 0] != 0:
                raise ValueError(f"`intrinsics` must have no skew beside `distortion`, got {self.intrinsics.tolist()}")
        if self.extrinsics is not None:
            object.__setattr__(self, "extrinsics", _validate_extrinsics(self.extrinsics))

    @classmethod
    def from_focal_px(cls, focal_px: float, size: tuple[int, int], **others: Any) -> "Camera":
        """Make a camera that looks through the middle of a picture of `size` (width, height) px."""
        width, height = size
        return cls(np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]]), **others)

    @classmethod
    def from_field_of_view(cls, degrees: float, size: tuple[int, int], **others: Any) -> "Camera":
        """Guess the camera of a picture from the angle across its longer side.

        Args:
            degrees: The angle; 50 to 75 for most phones and webcams, 25 to 45 for a zoomed lens.
            size: Width and height of the picture in px.
            others: More arguments of the camera.

        Returns:
            A camera with `guessed` set.

        Raises:
            ValueError: The angle is not between 0 and 180 degrees.
        """
        if isinstance(degrees, str) or not 0 < degrees < 180:
            raise ValueError(f"`field_of_view` must be a number between 0 and 180 degrees, got {degrees!r}")
        focal_px = max(size) / 2 / math.tan(math.radians(degrees) / 2)
        return cls.from_focal_px(focal_px, size, **others, guessed=True)

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "Camera":
        """Read a camera from a JSON file.

        Args:
            path: File with `intrinsics` (3x3, px) and, if known, `distortion` (`model` and `coefficients`) and
                `extrinsics` (3x4 or 4x4, world to camera, mm).

        Returns:
            The camera.

        Raises:
            ValueError: The file is no JSON, has other keys, or describes no camera; the message names the file.
            OSError: It cannot be read.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(content, dict) or "intrinsics" not in content or not content.keys() <= set(CAMERA_KEYS):
                keys = sorted(content) if isinstance(content, dict) else type(content).__name__
                raise ValueError(f"expected `intrinsics` and perhaps `distortion` and `extrinsics`, got {keys}")
            return cls(**content)
        except ValueError as error:
            raise ValueError(f"the camera file {os.fspath(path)} is not valid: {error}") from error

    def distort(self, points: torch.Tensor) -> torch.Tensor:
        """Move ideal image points `(..., 2)` px to where the lens shows them."""
        return self._through_lens(points, Distortion.distort)

    def undistort(self, points: torch.Tensor) -> torch.Tensor:
        """Move image points `(..., 2)` px to where an ideal lens would show them; NaN where that is nowhere."""
        return self._through_lens(points, Distortion.undistort)

    def _through_lens(self, points: torch.Tensor, move: Any) -> torch.Tensor:
        if self.distortion is None:
            return points
        moved = move(self.distortion, points.double().cpu().reshape(-1, 2).numpy(), self.intrinsics)
        return torch.from_numpy(moved).reshape(points.shape).to(points)

    def describe(self) -> dict[str, Any]:
        """Say what is known of the camera as plain numbers, for the head of a file."""
        lens, place = self.distortion, self.extrinsics
        return {
            "intrinsics": self.intrinsics.tolist(),
            "intrinsics_guessed": self.guessed,
            "distortion": None if lens is None else {"model": lens.model, "coefficients": list(lens.coefficients)},
            "extrinsics": None if place is None else place.tolist(),
        }


def camera_of_picture(size: tuple[int, int], known: Mapping[str, Any]) -> Camera:
    """Return the camera of a picture of `size` (width, height) px from whatever is known of it.

    That is either `camera`, a [`Camera`] or the path of its JSON file, or what one is made of: `intrinsics`, or
    `field_of_view` in degrees as a guess, and perhaps `distortion` and `extrinsics`; None stands for nothing. If
    nothing is known it is a guess of `GUESSED_FIELD_OF_VIEW`, and marked as one.

    Raises:
        ValueError: Both ways are used, or neither gives intrinsics, or what is known is no camera.
    """
    parts = {name: known[name] for name in CAMERA_ARGUMENTS if known.get(name) is not None}
    camera = parts.pop("camera", None)
    if camera is not None:
        if parts:
            raise ValueError(f"`camera` must be given alone, got {', '.join(parts)} beside it")
        if isinstance(camera, (str, os.PathLike)):
            return Camera.from_json(camera)
        if not isinstance(camera, Camera):
            raise ValueError(f"`camera` must be a Camera or the path of its JSON file, got {type(camera).__name__}")
        return camera
    field_of_view = parts.pop("field_of_view", None)
    if "intrinsics" in parts:
        return Camera(**parts)
    if field_of_view is not None:
        return Camera.from_field_of_view(field_of_view, size, **parts)
    if parts:
        raise ValueError(f"{', '.join(parts)} must come with `intrinsics` or `field_of_view`, got neither")
    return Camera.from_field_of_view(GUESSED_FIELD_OF_VIEW, size)


def validate_intrinsics(intrinsics: Any, name: str = "intrinsics") -> np.ndarray:
    """Return a camera matrix `(3, 3)` as float64 if it is one; `ValueError` otherwise."""
    matrix = to_array(intrinsics, name)
    if matrix.shape != (3, 3):
        raise ValueError(f"`{name}` must be a 3x3 matrix, got shape {matrix.shape}")
    is_camera = np.isfinite(matrix).all() and np.array_equal(matrix[2], [0, 0, 1])
    if not (is_camera and matrix[0, 0] > 0 and matrix[1, 1] > 0 and np.linalg.det(matrix) > 0):
        raise ValueError(
            f"`{name}` must be finite [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with positive focal lengths, "
            f"got {matrix.tolist()}"
        )
    return matrix


def _validate_extrinsics(extrinsics: Any) -> np.ndarray:
    """Return extrinsics `(3, 4)` as float64 if they are a rotation and a translation."""
    matrix = to_array(extrinsics, "extrinsics")
    if matrix.shape == (4, 4) and np.array_equal(matrix[3], [0, 0, 0, 1]):
        matrix = matrix[:3]
    if matrix.shape != (3, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"`extrinsics` must be a finite 3x4 or 4x4 matrix [R | t], got {matrix.tolist()}")
    rotation = matrix[:, :3]
    is_orthonormal = np.abs(rotation @ rotation.T - np.eye(3)).max() < ORTHONORMAL_TOLERANCE
    if not is_orthonormal or np.linalg.det(rotation) < 0:
        raise ValueError(f"`extrinsics` must begin with a rotation, got {rotation.tolist()}")
    return matrix


def to_array(values: Any, name: str) -> np.ndarray:
    """Convert nested numbers to float64, naming them where they are ragged or no numbers."""
    try:
        return np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be an array of numbers, got {values!r}") from error


def _opencv() -> ModuleType:
    """Import OpenCV, which only lenses need."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError('lens distortion needs OpenCV: pip install "jointdetr[camera]"') from error
    return cv2


Rest = ParamSpec("Rest")


def outside_autocast(
    function: Callable[Concatenate[torch.Tensor, Rest], torch.Tensor],
) -> Callable[Concatenate[torch.Tensor, Rest], torch.Tensor]:
    """Let a function compute in the precision of its arguments: autocast would round pixels and millimetres."""

    @functools.wraps(function)
    def run(first: torch.Tensor, *args: Rest.args, **kwargs: Rest.kwargs) -> torch.Tensor:
        device = first.device.type
        if not torch.is_autocast_enabled(device):  # asked first, as not every device knows autocast
            return function(first, *args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(first, *args, **kwargs)

    return run


@outside_autocast
def project(joints_camera: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """Project `(..., joints, 3)` mm in front of the camera by `(..., 3, 3)` onto the image: `(..., joints, 2)` px."""
    homogeneous = joints_camera @ intrinsics.transpose(-1, -2)  # (..., joints, 3)
    return homogeneous[..., :2] / homogeneous[..., 2:]


@outside_autocast
def apply_affine(points: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Map image points: `(..., points, 2)` by `(..., 2, 3)` -> `(..., points, 2)`."""
    return points @ affine[..., :2].transpose(-1, -2) + affine[..., 2].unsqueeze(-2)


@outside_autocast
def invert_affine(affine: torch.Tensor) -> torch.Tensor:
    """Return the `(..., 2, 3)` map that undoes `affine`."""
    linear = torch.linalg.inv(affine[..., :2])  # (..., 2, 2)
    return torch.cat([linear, -linear @ affine[..., 2:]], dim=-1)


@outside_autocast
def crop_intrinsics(intrinsics: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Carry intrinsics `(..., 3, 3)` along with an affine map of the image `(..., 2, 3)`, old px -> new px.

    Rotated crops give a full upper 2x2 block.
    """
    return torch.cat([affine @ intrinsics, intrinsics[..., 2:, :].expand(*affine.shape[:-2], 1, 3)], dim=-2)


def flip_permutation(flip_pairs: Sequence[tuple[int, int]], num_joints: int) -> list[int]:
    """Return, for each joint, the joint it trades places with under mirroring (itself if none)."""
    permutation = list(range(num_joints))
    for first, second in flip_pairs:
        permutation[first], permutation[second] = second, first
    return permutation


def flip_joints(joints: torch.Tensor, flip_pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Mirror positions `(..., joints, 3)` left to right, trading the places of left and right joints."""
    flipped = joints[..., flip_permutation(flip_pairs, joints.shape[-2]), :]
    return torch.cat([-flipped[..., :1], flipped[..., 1:]], dim=-1)


@outside_autocast
def procrustes_align(predicted: torch.Tensor, target: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Align predictions `(..., joints, 3)` to targets by the best rotation, translation and scale, without reflection.

    The `valid` joints `(..., joints)` determine the alignment, all by default; all joints are transformed, and where
    not valid `target` may be NaN.
    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    if valid is None:
        valid = torch.ones(predicted.shape[:-1], dtype=torch.bool, device=predicted.device)
    mask = valid.unsqueeze(-1)  # (..., joints, 1)
    count = mask.sum(dim=-2, keepdim=True).clamp(min=1)
    predicted_mean = predicted.where(mask, 0.0).sum(dim=-2, keepdim=True) / count  # (..., 1, 3)
    target_mean = target.where(mask, 0.0).sum(dim=-2, keepdim=True) / count
    predicted_centred = (predicted - predicted_mean).where(mask, 0.0)
    target_centred = (target - target_mean).where(mask, 0.0)

    u, singular, v_transposed = torch.linalg.svd(predicted_centred.transpose(-1, -2) @ target_centred)
    # The least significant axis is turned round where the best orthogonal matrix would be a reflection.
    sign = torch.ones_like(singular)
    sign[..., -1] = torch.where(torch.linalg.det(u @ v_transposed) < 0, -1.0, 1.0)
    rotation = (u * sign.unsqueeze(-2)) @ v_transposed  # (..., 3, 3), for row vectors
    spread = predicted_centred.square().sum(dim=(-2, -1)).clamp(min=torch.finfo(predicted.dtype).tiny)
    scale = (singular * sign).sum(dim=-1) / spread  # (...)
    return scale[..., None, None] * (predicted - predicted_mean) @ rotation + target_mean


def solve_root_translation(
    joints: torch.Tensor,  # (..., joints, 3) mm, root-relative
    points_px: torch.Tensor,  # (..., joints, 2)
    intrinsics: torch.Tensor,  # (..., 3, 3)
    weights: torch.Tensor | None = None,  # (..., joints), >= 0, all one by default; what weighs nothing may be NaN
    robust: bool = False,
) -> torch.Tensor:
    """Find where the root must stand for joints to be seen at image points: `(..., 3)` mm, NaN where they coincide.

    `project(joints + translation, intrinsics) = points_px`, multiplied by the depth, is linear in the translation. It
    is solved by weighted least squares in float64, exactly if the points are exact. The `robust` solution goes on from
    there by iteratively reweighted least squares: it minimises the distances in the picture, which count with the
    Cauchy loss, so that a few joints far off do not move a person by metres. (Huber's loss, which never lets go of an
    outlier, left three times the error where three joints of 17 were 150 px off.) At least two joints must have a
    positive weight, and these be finite.
    """
    if weights is None:
        weights = joints.new_ones(joints.shape[:-1])
    used = weights > 0
    # In units of the focal length, so that the rank can be judged whatever the resolution is.
    focal_px = torch.linalg.det(intrinsics[..., :2, :2].double()).abs().sqrt()[..., None, None, None]
    matrix = intrinsics.double().unsqueeze(-3)  # (..., 1, 3, 3)
    joints_safe = joints.double().where(used.unsqueeze(-1), 0.0)
    points_safe = points_px.double().where(used.unsqueeze(-1), 0.0).unsqueeze(-1)  # (..., joints, 2, 1)
    rows = (matrix[..., :2, :] - points_safe * matrix[..., 2:, :]) / focal_px  # (..., joints, 2, 3)
    offsets = (rows @ joints_safe.unsqueeze(-1)).squeeze(-1)  # (..., joints, 2)

    weights = weights.double()
    normals = rows.transpose(-1, -2) @ rows  # (..., joints, 3, 3)
    rights = -(rows.transpose(-1, -2) @ offsets.unsqueeze(-1)).squeeze(-1)  # (..., joints, 3)
    determined = _is_determined(normals, weights)
    translation = _solve_weighted(normals, rights, weights, determined)
    for _ in range(ROBUST_STEPS if robust else 0):
        depth = (joints_safe[..., 2] + translation[..., None, 2]).abs().clamp(min=1.0)  # (..., joints) mm
        distances = ((rows @ translation[..., None, :, None]).squeeze(-1) + offsets).norm(dim=-1) / depth
        trust = weights * _cauchy_weights(distances, used) / depth.square()
        translation = _solve_weighted(normals, rights, trust, determined)
    return translation.where(determined.unsqueeze(-1), torch.nan).to(joints.dtype)


def _is_determined(normals: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Tell whether the joints' equations `(..., joints, 3, 3)` have one solution: `(...)` bool."""
    eigenvalues = torch.linalg.eigvalsh((normals * weights[..., None, None]).sum(dim=-3))  # ascending
    return eigenvalues[..., 0] > 1e-10 * eigenvalues[..., 2]


def _solve_weighted(
    normals: torch.Tensor, rights: torch.Tensor, weights: torch.Tensor, determined: torch.Tensor
) -> torch.Tensor:
    """Sum the joints' normal equations by their weights and solve them: `(..., 3)`, of no meaning if undetermined."""
    normal = (normals * weights[..., None, None]).sum(dim=-3)  # (..., 3, 3)
    right = (rights * weights.unsqueeze(-1)).sum(dim=-2)  # (..., 3)
    identity = torch.eye(3, dtype=normal.dtype, device=normal.device)
    return torch.linalg.solve(normal.where(determined[..., None, None], identity), right.unsqueeze(-1)).squeeze(-1)


def _cauchy_weights(distances: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """Weights `(..., joints)` of the Cauchy loss, whose scale is set by the median distance of the joints in use."""
    median = distances.where(used, torch.nan).nanmedian(dim=-1, keepdim=True).values
    scale = (CAUCHY_SCALE * median).clamp(min=1e-12)  # of exact points all distances are zero
    return 1 / (1 + (distances / scale).square())
