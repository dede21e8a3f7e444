"""One person of a picture -> the network's input: where the crop lies, which way up, its pixels and its labels.

A crop is one affine map of the picture, so that the picture is sampled once. Image points are continuous pixel
coordinates: pixel `i` covers `[i, i + 1)` and its centre is `i + 0.5`. Boxes are `(x, y, width, height)` in px of the
upright picture, `affine` maps px of the picture to px of the crop.

Networks know people who stand better than those who hang or lie, so a crop whose person turns out not to be upright is
turned, and looked at once more. Turning a picture about any point is what a camera shows that is rolled about its
axis, but for a shift; so poses are turned along, and back.

Shape vocabulary: `...` any batch dimensions, people (of one picture), crops, joints.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import PILImageResampling

from .geometry_jointdetr import apply_affine, invert_affine
from .skeleton_jointdetr import Skeleton

LEANING = math.radians(10.0)  # what is less is worth no second look
TURNING_STEP = math.radians(5.0)  # so that the last bits of a pose do not change the crop of the second look
HIPS, SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
CROP_SETTINGS = (
    *("size", "box_padding", "resample"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)
"""What an image processor says of its crops."""


@dataclass(frozen=True)
class Cropper:
    """How an image processor crops and normalises; inference, training and evaluation all do it by this.

    Args:
        size: `(height, width)` of the crop in px.
        padding: Factor on a box's width and height.
        resample: Pillow's filter: `NEAREST`, `BILINEAR` or `BICUBIC`.
        scale, shift: For each of the three channels; a pixel from 0 to 255 becomes `pixel * scale - shift`.
    """

    size: tuple[int, int]
    padding: float
    resample: PILImageResampling
    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Cropper":
        """Read the `CROP_SETTINGS` of an image processor."""
        scale = np.full(3, settings["rescale_factor"] if settings["do_rescale"] else 1.0)
        shift = np.zeros(3)
        if settings["do_normalize"]:
            scale = scale / settings["image_std"]
            shift = np.broadcast_to(np.divide(settings["image_mean"], settings["image_std"]), 3)
        return cls(
            size=(settings["size"]["height"], settings["size"]["width"]),
            padding=settings["box_padding"],
            resample=PILImageResampling(settings["resample"]),
            scale=tuple(scale.tolist()),
            shift=tuple(shift.tolist()),
        )

    def affine(self, box: Sequence[float]) -> torch.Tensor:
        """Map from the picture to the crop of a box, `(2, 3)` float64."""
        return person_crop_affine(box, self.size, self.padding)

    def whole(self, image_size: tuple[int, int]) -> torch.Tensor:
        """Map from a picture of (width, height) px to a crop that shows all of it, unpadded, `(2, 3)` float64."""
        return person_crop_affine((0.0, 0.0, *image_size), self.size, padding=1.0)

    def draw(self, image: Image.Image, affine: torch.Tensor) -> Image.Image:
        """Draw a crop."""
        return warp_image(image, affine, self.size, self.resample)

    def pixel_values(self, crops: Sequence[Image.Image]) -> np.ndarray:
        """Rescale and normalise crops of `size`: `(crops, 3, height, width)` float32."""
        if not crops:
            return np.zeros((0, 3, *self.size), dtype=np.float32)
        pixels = np.stack([np.asarray(crop) for crop in crops]).transpose(0, 3, 1, 2)
        values = np.ascontiguousarray(pixels, dtype=np.float32)
        values *= np.array(self.scale, dtype=np.float32)[:, None, None]
        values -= np.array(self.shift, dtype=np.float32)[:, None, None]
        return values

    def picture(self, pixel_values: torch.Tensor) -> Image.Image:
        """Turn the network's input `(3, height, width)` back into a picture."""
        scale, shift = (torch.tensor(values)[:, None, None] for values in (self.scale, self.shift))
        pixels = ((pixel_values + shift) / scale).round().clamp(0, 255).byte()
        return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def person_crop_affine(
    box: Sequence[float] | torch.Tensor, size: tuple[int, int], padding: float = 1.25
) -> torch.Tensor:
    """Return the map from the picture to a crop that shows a padded box in its middle.

    The crop keeps the picture's proportions: it is the smallest region of the aspect of `size` around the padded box.

    Args:
        box: `(x, y, width, height)` in px.
        size: `(height, width)` of the crop in px.
        padding: Factor on the box's width and height.

    Returns:
        `(2, 3)` float64, px of the picture -> px of the crop.

    Raises:
        ValueError: The box is no finite box of positive size, or the padding is not positive.
    """
    x, y, width, height = (float(value) for value in box)
    if not (math.isfinite(x) and math.isfinite(y) and 0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"`box` must be a finite (x, y, width, height) of positive size, got {[x, y, width, height]}")
    if not 0 < padding < math.inf:
        raise ValueError(f"`padding` must be a positive factor, got {padding}")
    crop_height, crop_width = size
    scale = min(crop_width / width, crop_height / height) / padding
    offset_x = crop_width / 2 - scale * (x + width / 2)
    offset_y = crop_height / 2 - scale * (y + height / 2)
    return torch.tensor([[scale, 0.0, offset_x], [0.0, scale, offset_y]], dtype=torch.float64)


def misses_picture(box: Sequence[float], image_size: tuple[int, int]) -> bool:
    """Return whether a box x, y, width, height has nothing in common with a picture of (width, height) px."""
    x, y, box_width, box_height = box
    width, height = image_size
    return x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0


def warp_image(
    image: Image.Image,
    affine: torch.Tensor,
    size: tuple[int, int],
    resample: PILImageResampling = PILImageResampling.BILINEAR,
) -> Image.Image:
    """Draw a picture through an affine map, anti-aliased; what lies outside the picture is black.

    A picture that shrinks is first averaged over blocks of whole pixels (unless `resample` is `NEAREST`, as label maps
    need it), so that the one interpolation that follows hardly shrinks it any more.

    Args:
        image: The picture, of any mode that Pillow can interpolate.
        affine: `(2, 3)`, px of the picture -> px of the result; any invertible map, rotations and mirrorings included.
        size: `(height, width)` of the result in px.
        resample: Pillow's filter: `NEAREST`, `BILINEAR` or `BICUBIC`.

    Returns:
        The warped picture.

    Raises:
        ValueError: The affine map is singular.
    """
    height, width = size
    inverse = invert_affine(affine.double())  # (2, 3), px of the result -> px of the picture
    shrinkage = torch.linalg.det(inverse[:, :2]).abs().sqrt().item()
    factor = 1 if resample == PILImageResampling.NEAREST else min(max(round(shrinkage), 1), max(image.size))
    if factor > 1:
        corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=torch.float64)
        region = _region_in_image(apply_affine(corners, inverse), image.size, margin=factor)
        image = image.reduce(factor, box=region)
        inverse[:, 2] -= torch.tensor(region[:2], dtype=torch.float64)
        inverse /= factor
    coefficients = inverse.flatten().tolist()
    return image.transform((width, height), Image.Transform.AFFINE, coefficients, resample=resample)


def _region_in_image(points: torch.Tensor, image_size: tuple[int, int], margin: int) -> tuple[int, int, int, int]:
    """Return the pixels (left, top, right, bottom) around image points `(points, 2)`; never an empty region."""
    width, height = image_size
    left, top = (points.amin(dim=0).floor() - margin).tolist()
    right, bottom = (points.amax(dim=0).ceil() + margin).tolist()
    left, top = min(max(int(left), 0), width - 1), min(max(int(top), 0), height - 1)
    return left, top, min(max(int(right), left + 1), width), min(max(int(bottom), top + 1), height)


def crop_labels(
    person: Mapping[str, Any], affine: np.ndarray, size: tuple[int, int], root: int
) -> dict[str, np.ndarray]:
    """Return what the loss is told of a person in a crop, which may be turned or mirrored.

    A mirrored crop's joints keep their names here: it is for the caller to trade left and right.

    Args:
        person: Any of `joints_3d` `(joints, 3)` mm in camera axes, root-relative or not, `joints_2d` `(joints, 2)` px
            of the picture, their masks `joints_3d_valid` and `joints_2d_valid` `(joints,)` (left out: what is finite),
            `visible` `(joints,)`, `nobody`.
        affine: `(2, 3)`, px of the picture -> px of the crop, without shear.
        size: `(height, width)` of the crop in px.
        root: Number of the joint that 3D labels are relative to.

    Returns:
        As far as `person` says it: `joints_3d` `(joints, 3)` root-relative mm in the axes of the crop, `joints_2d`
        `(joints, 2)` in [0, 1] of the crop, NaN where not valid; their masks; `visible` `(joints,)`, inside the crop
        too; and always `nobody` `()`.
    """
    labels = {"nobody": np.array(bool(person.get("nobody")))}
    beside = False
    if person.get("joints_3d") is not None:
        joints, valid = _labelled(person, "joints_3d")
        valid = valid & valid[root]
        world = np.eye(3)  # (3, 3), turned and mirrored along with the picture
        world[:2, :2] = affine[:, :2] / math.hypot(*affine[:, 0])
        joints = np.where(valid[:, None], (joints - joints[root]) @ world.T, np.nan)
        labels |= {"joints_3d": joints.astype(np.float32), "joints_3d_valid": valid}
    if person.get("joints_2d") is not None:
        points, valid = _labelled(person, "joints_2d")
        points = (points @ affine[:, :2].T + affine[:, 2]) / size[::-1]
        points = np.where(valid[:, None], points, np.nan)
        labels |= {"joints_2d": points.astype(np.float32), "joints_2d_valid": valid}
        beside = ((points < 0) | (points > 1)).any(axis=-1)  # of the crop, which shows less than the picture
    if person.get("visible") is not None:
        labels["visible"] = np.array(person["visible"], dtype=bool) & ~np.array(beside)
    return labels


def _labelled(person: Mapping[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the joints in float64, and which of them are valid."""
    values = np.array(person[name], dtype=np.float64)
    valid = person.get(f"{name}_valid")
    return values, np.array(np.isfinite(values).all(axis=-1) if valid is None else valid, dtype=bool)


def body_tilt(points: torch.Tensor, skeleton: Skeleton) -> torch.Tensor:
    """Angle of the line from the hips to the shoulders in the picture.

    Args:
        points (`torch.Tensor` of shape `(..., joints, 2)`): In the picture, y down, in any unit that is the same for x
            and y; NaN where unknown.
        skeleton (`Skeleton`): Names the joints.

    Returns:
        `torch.Tensor` of shape `(...)`: Radians from -pi to pi, 0 for upright, positive for a body that leans to the
        right of the picture; NaN where no hip or no shoulder is known, or the skeleton has none.
    """
    unknown = points.new_full(points.shape[:-2], torch.nan)
    if not {*HIPS, *SHOULDERS} <= set(skeleton.joints):
        return unknown
    hips, shoulders = (
        points[..., [skeleton.joints.index(name) for name in names], :].nanmean(dim=-2) for names in (HIPS, SHOULDERS)
    )
    right, down = (shoulders - hips).unbind(dim=-1)
    return torch.where((right == 0) & (down == 0), unknown, torch.atan2(right, -down))


def turns_upright(points: torch.Tensor, skeleton: Skeleton) -> torch.Tensor:
    """Angles by which people lean in the picture, for a second look at crops that are turned by them.

    Args:
        points (`torch.Tensor` of shape `(people, joints, 2)`): px of the picture or of its crop, NaN where unknown.
        skeleton (`Skeleton`): Names the joints.

    Returns:
        `torch.Tensor` of shape `(people,)`: Radians, in steps of 5 degrees; 0 for those who are about upright, or of
        whom that is not known.
    """
    tilts = body_tilt(points, skeleton)
    rounded = TURNING_STEP * (tilts / TURNING_STEP).round()
    return torch.where(tilts.abs() > LEANING, rounded, 0.0)  # NaN is not more either


def turn_about(affine: torch.Tensor, angle: float, size: tuple[int, int]) -> torch.Tensor:
    """Turn a crop about its middle, so that what leans by an angle is upright.

    Args:
        affine (`torch.Tensor` of shape `(2, 3)`): px of the picture -> px of the crop.
        angle (`float`): Radians, as `body_tilt` gives them.
        size (`tuple[int, int]`): Height and width of the crop in px.
    """
    middle = affine.new_tensor([size[1] / 2, size[0] / 2])
    turn = roll(affine.new_tensor(-angle))[:2, :2]
    linear = turn @ affine[:, :2]
    return torch.cat([linear, (turn @ (affine[:, 2] - middle) + middle)[:, None]], dim=1)


def turned_back(joints: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Turn poses of turned crops into the axes of the camera that took the picture.

    Args:
        joints (`torch.Tensor` of shape `(crops, joints, 3)`): Root-relative, in the axes of each crop.
        affine (`torch.Tensor` of shape `(crops, 2, 3)`): px of the picture -> px of the crop.
    """
    rolls = crop_rolls(affine).to(joints)
    return joints @ torch.stack([roll(-angle) for angle in rolls])  # row vectors: the inverse of the roll


def crop_rolls(affine: torch.Tensor) -> torch.Tensor:
    """Return how far crops have been turned `(crops,)`, in radians, as `body_tilt` says how far bodies lean.

    Args:
        affine (`torch.Tensor` of shape `(crops, 2, 3)`): px of the picture -> px of the crop.
    """
    return -torch.atan2(affine[:, 1, 0], affine[:, 0, 0])


def roll(angle: torch.Tensor) -> torch.Tensor:
    """Rotation (3, 3) about the camera's axis, from x (right) towards y (down)."""
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one]).view(3, 3)


__all__ = [
    "CROP_SETTINGS",
    "Cropper",
    "crop_labels",
    "crop_rolls",
    "person_crop_affine",
    "turns_upright",
    "warp_image",
]
