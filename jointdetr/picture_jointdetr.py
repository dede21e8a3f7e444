"""Any picture a user may hand over -> an upright 8-bit RGB `PIL.Image` -> the crop of each person, and its labels.

Files, URLs, base64 strings, PIL images, NumPy arrays and torch tensors are read; the EXIF orientation is applied,
transparency is laid over white (as transformers does), 16-bit pictures are scaled to 8 bits.

A crop is one affine map of the picture, so that the picture is sampled once. Boxes are `(x, y, width, height)` in px
of the upright picture, `affine` maps px of the picture to px of the crop. Networks know people who stand better than
those who hang or lie, so a crop whose person turns out not to be upright is turned, and looked at once more. Turning a
picture about any point is what a camera shows that is rolled about its axis, but for a shift; so poses are turned
along, and back.

Shape vocabulary: `...` any batch dimensions, people (of one picture), crops, joints.
"""

import base64
import binascii
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import ChannelDimension, PILImageResampling

from .camera_jointdetr import apply_affine, invert_affine
from .skeleton_jointdetr import Skeleton

CHANNEL_COUNTS = (1, 3, 4)
# What Pillow raises for files that are truncated, broken, no picture at all, or too large to be true.
DECODING_ERRORS = (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError)
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that trade width and height
TIMEOUT_SECONDS = 60
SHORTEST_PICTURE_BYTES = 24  # a GIF of one pixel has 35
HEIC_BRANDS = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1")
FLOAT_TOLERANCE = 1e-3  # interpolation leaves values a little outside [0, 1]

LEANING = math.radians(10.0)  # what is less is worth no second look
TURNING_STEP = math.radians(5.0)  # so that the last bits of a pose do not change the crop of the second look
HIPS, SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
CROP_SETTINGS = (
    *("size", "box_padding", "resample"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)
"""What an image processor says of its crops."""


def iterate_pictures(images: Any) -> Iterator[Any]:
    """Yield each picture of a single one, an array of them `(pictures, ..., ..., ...)`, or a list nested at will."""
    if isinstance(images, (list, tuple)):
        for image in images:
            yield from iterate_pictures(image)
    elif isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4:
        yield from images
    else:
        yield images


def load_picture(source: Any, name: str = "picture", data_format: ChannelDimension | str | None = None) -> Image.Image:
    """Return a path, URL, base64 string, PIL image, array or tensor as an upright 8-bit RGB image.

    Arrays are `(height, width)`, `(height, width, channels)` or `(channels, height, width)` with 1, 3 or 4 channels:
    integers from 0 to 255, 16-bit unsigned integers, booleans, or floating-point numbers within [0, 1] or [0, 255].
    Without a `data_format` arrays are taken as channels-last and tensors as channels-first where both would do.

    Raises:
        ValueError: It cannot be found, decoded or understood; the message calls it by its `name`.
    """
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return _from_array(source, name, data_format)
    shown = _short(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else repr(source)
    if isinstance(source, (str, os.PathLike)):
        source = _open(os.fspath(source), name)
    if not isinstance(source, Image.Image):
        raise ValueError(
            f"`{name}` must be a path, URL, base64 string, PIL image, array or tensor, got {type(source).__name__}"
        )
    try:
        source.load()
        if source.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            source = ImageOps.exif_transpose(source)
    except DECODING_ERRORS as error:
        raise ValueError(f"`{name}` must be a readable picture, got {shown}: {error}") from error
    return _to_rgb(source, name)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height that `load_picture` gives an opened picture, from its header alone."""
    if image.format == "TIFF":  # Pillow turns these by itself, and has their upright size from the start
        return image.size
    width, height = image.size
    return (height, width) if image.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS else (width, height)


def _open(source: str, name: str) -> Image.Image:
    """Open a path, URL or base64 string without decoding the pixels."""
    if os.path.isdir(source):
        raise ValueError(f"`{name}` must be a picture, got the folder {_short(source)}: name the files in it")
    try:
        if source.startswith(("http://", "https://")):
            with urlopen(Request(source, headers={"User-Agent": "jointdetr"}), timeout=TIMEOUT_SECONDS) as response:
                return Image.open(BytesIO(response.read()))
        if os.path.isfile(source):
            return Image.open(source)
        return _open_base64(source)
    except binascii.Error as error:
        raise ValueError(f"`{name}` must be an existing file, a URL or base64, got {_short(source)}") from error
    except (*DECODING_ERRORS, IndexError) as error:
        reason = _reason(error, source)
        raise ValueError(f"`{name}` must be a readable picture, got {_short(source)}: {reason}") from error


def _open_base64(source: str) -> Image.Image:
    """Open a picture in base64; `binascii.Error` for what is none, such as the name of a file that is missing."""
    encoded = source.split(",", 1)[1] if source.startswith("data:image/") else source
    decoded = base64.b64decode("".join(encoded.split()), validate=True)
    if len(decoded) < SHORTEST_PICTURE_BYTES:  # many a name is made of base64's letters
        raise binascii.Error("too short for a picture")
    return Image.open(BytesIO(decoded))


def _reason(error: Exception, source: str) -> str:
    """What is wrong with a picture, without the address of a buffer or a second mention of the file."""
    if isinstance(error, URLError) and not isinstance(error, HTTPError):
        return f"it cannot be fetched: {getattr(error.reason, 'strerror', None) or error.reason}"
    if not isinstance(error, UnidentifiedImageError):
        return _short(str(error))
    return "HEIC is not read here: save it as JPEG" if _is_heic(source) else "no kind of picture that Pillow knows"


def _is_heic(source: str) -> bool:
    """Whether a file is a picture in Apple's usual format, whatever its name."""
    if not os.path.isfile(source):
        return False
    with open(source, "rb") as file:
        return file.read(12)[4:] in HEIC_BRANDS


def _short(text: str) -> str:
    """Shorten what was got, which may be a whole file in base64."""
    return repr(text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)")


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any mode of Pillow, whose own conversion would clip 16-bit and floating-point pictures."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # "I;16" and its relatives, and "I" where older Pillows put 16-bit files
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"`{name}` must have 16-bit values, got {values.min()} to {values.max()}")
        return _from_array(values.astype(np.uint16), name, ChannelDimension.LAST)
    if image.mode == "F":
        return _from_array(np.asarray(image), name, ChannelDimension.LAST)
    return Image.fromarray(np.asarray(convert_to_rgb(image, return_numpy=True)))


def _from_array(array: Any, name: str, data_format: ChannelDimension | str | None) -> Image.Image:
    """Convert an array or tensor."""
    prefer_first = isinstance(array, torch.Tensor)
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and _channels_are_first(shape, data_format, prefer_first):
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in CHANNEL_COUNTS or 0 in shape:
        raise ValueError(
            f"`{name}` must be (height, width), (height, width, channels) or (channels, height, width) with 1, 3 or 4 "
            f"channels and at least one pixel, got shape {tuple(shape)}"
        )
    pixels = _to_bytes(array, name)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(pixels)), name)


def _channels_are_first(
    shape: tuple[int, ...], data_format: ChannelDimension | str | None, prefer_first: bool
) -> bool:
    """Tell the layout of a three-dimensional array."""
    if data_format is not None:
        return ChannelDimension(data_format) == ChannelDimension.FIRST
    first, last = shape[0] in CHANNEL_COUNTS, shape[-1] in CHANNEL_COUNTS
    return first and (prefer_first or not last)


def _to_bytes(values: np.ndarray, name: str) -> np.ndarray:
    """Scale values of any type to 0 ... 255."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"`{name}` must hold numbers, got {values.dtype}")
    low, high = values.min(), values.max()  # NaN where any value is NaN, and then no comparison holds
    if values.dtype.kind == "f" and low >= -FLOAT_TOLERANCE and high <= 1 + FLOAT_TOLERANCE:
        return np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    # Floating-point values whose maximum is just above 1 are no picture of 0 ... 255, and would come out black.
    if low >= 0 and high <= 255 and (values.dtype.kind != "f" or high >= 2):
        return np.rint(values).astype(np.uint8)
    raise ValueError(
        f"`{name}` must hold values from 0 to 255 (floating-point ones from 0 to 1 or from 0 to 255), "
        f"got {values.dtype} from {low} to {high}"
    )


@dataclass(frozen=True)
class Cropper:
    """How an image processor crops and normalises; inference, training and evaluation all do it by this."""

    size: tuple[int, int]  # height, width of the crop in px
    padding: float  # factor on a box's width and height
    resample: PILImageResampling  # nearest, bilinear or bicubic
    scale: tuple[float, ...]  # of the three channels: a pixel from 0 to 255 becomes `pixel * scale - shift`
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
    """Return the map `(2, 3)` float64 from the picture to a crop of `size` (height, width) px around a padded box.

    The crop keeps the picture's proportions: it is the smallest region of the aspect of `size` around the padded box.
    A box that is not finite or of no size is a `ValueError`.
    """
    x, y, width, height = (float(value) for value in box)
    if not (math.isfinite(x) and math.isfinite(y) and 0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"`box` must be a finite (x, y, width, height) of positive size, got {[x, y, width, height]}")
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
    """Draw a picture through an affine map onto `size` (height, width) px, anti-aliased, black beyond the picture.

    The map `(2, 3)` may turn and mirror. A picture that shrinks is first averaged over blocks of whole pixels (unless
    `resample` is `NEAREST`, as label maps need it), so that the one interpolation that follows hardly shrinks it.
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
        person: An annotation, see [`JointDetrImageProcessor.preprocess`].
        affine: `(2, 3)`, px of the picture -> px of the crop, without shear.
        size: Height and width of the crop in px.
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
    """Angle of the line from the hips to the shoulders of points `(..., joints, 2)`: `(...)` radians from -pi to pi.

    It is 0 for upright, positive for a body that leans to the right of the picture, NaN where no hip or no shoulder is
    known. The points' unit is any that is the same for x and y.
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
    """Angles `(people,)` by which people `(people, joints, 2)` px lean, for a second look at crops turned by them.

    Radians in steps of 5 degrees; 0 for those who are about upright, or of whom that is not known.
    """
    tilts = body_tilt(points, skeleton)
    rounded = TURNING_STEP * (tilts / TURNING_STEP).round()
    return torch.where(tilts.abs() > LEANING, rounded, 0.0)  # NaN is not more either


def turn_about(affine: torch.Tensor, angle: float, size: tuple[int, int]) -> torch.Tensor:
    """Turn a crop `(2, 3)` of `size` (height, width) px about its middle: what leans by an angle is upright then."""
    middle = affine.new_tensor([size[1] / 2, size[0] / 2])
    turn = roll(affine.new_tensor(-angle))[:2, :2]
    linear = turn @ affine[:, :2]
    return torch.cat([linear, (turn @ (affine[:, 2] - middle) + middle)[:, None]], dim=1)


def turned_back(joints: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Turn poses `(crops, joints, 3)` of turned crops `(crops, 2, 3)` into the axes of the picture's camera."""
    rolls = crop_rolls(affine).to(joints)
    return joints @ torch.stack([roll(-angle) for angle in rolls])  # row vectors: the inverse of the roll


def crop_rolls(affine: torch.Tensor) -> torch.Tensor:
    """Return how far crops `(crops, 2, 3)` have been turned: `(crops,)` radians, of the sign of `body_tilt`."""
    return -torch.atan2(affine[:, 1, 0], affine[:, 0, 0])


def roll(angle: torch.Tensor) -> torch.Tensor:
    """Rotation (3, 3) about the camera's axis, from x (right) towards y (down)."""
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one]).view(3, 3)
