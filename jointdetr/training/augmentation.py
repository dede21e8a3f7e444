"""Rows as augmented training examples: one view of a person, whose picture, 2D, 3D and intrinsics move together.

A view is one affine map `A` of the picture, so the picture is sampled once, and one orthogonal matrix `M` of the 3D
world, as of a camera that is rolled about its optical axis, or mirrored in x. With the intrinsics `K`, `A K M^-1`
projects the moved world onto the moved picture exactly: turning about another point is a shift of the picture besides.

Shape vocabulary: as in `jointdetr/data/examples.py`. Camera axes: x right, y down, z forward.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from transformers import TrainerCallback, TrainerControl, TrainerState

from ..camera_jointdetr import flip_permutation
from ..data.examples import Example, PoseExamples
from ..data.loading import open_stored
from ..image_processing_jointdetr import JointDetrImageProcessorMixin
from ..people_jointdetr import inside_picture
from ..picture_jointdetr import body_tilt, load_picture
from ..skeleton_jointdetr import Skeleton

PROBABILITIES = (
    *("flip", "upright", "rotation", "quarter_turns", "misfit", "half_body", "greyscale"),
    *("blur", "downscale", "jpeg", "noise", "cutout"),
)
MISFIT_SCALES, MISFIT_SHIFT = (1 / 2.5, 1.8), 0.25
# of views of a part of the body: how many are of the upper part, and where the body is cut, from its top to its bottom
UPPER_SHARE, UPPER_CUTS, LOWER_CUTS, FEWEST_OF_PART = 0.8, (0.2, 0.9), (0.3, 0.6), 4
PART_MARGIN, FRAME_MARGINS = 0.15, (0.02, 0.5)  # around a part's joints, in sides of their box
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Augmentation:
    """How far an augmented view may go; zeros switch a part off."""

    flip: float = 0.5  # probability of a mirrored picture
    upright: float = 0.0  # of turning the body upright before any other turn, as inference's second look shows it
    rotation_degrees: float = 30.0  # largest turn of the picture, to either side
    rotation: float = 0.6  # probability of a turn
    quarter_turns: float = 0.0  # probability of a turn by 90, 180 or 270 degrees besides
    scale: float = 1.25  # largest magnification of the crop; its inverse is the smallest
    shift: float = 0.08  # largest move of the crop, as a fraction of its side
    misfit: float = 0.0  # probability of a crop that does not fit the person, in place of `scale` and `shift`
    half_body: float = 0.0  # probability of a part of the body alone, from head and shoulders on, as portraits show it
    colour: float = 0.6  # strength of brightness, contrast, saturation, channel gains and gamma; 1.0 is strong
    greyscale: float = 0.05  # probability of a grey picture
    blur: float = 0.2  # probability of a blur
    blur_radius_px: float = 1.5  # its largest radius in the crop
    downscale: float = 0.2  # probability of a loss of resolution, by a factor of up to 4
    jpeg: float = 0.3  # probability of compression with a quality between 15 and 80
    noise: float = 0.3  # probability of sensor noise with a deviation of up to 16 grey levels
    cutout: float = 0.3  # probability of up to three rectangles being covered

    def __post_init__(self) -> None:
        for name in PROBABILITIES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"`augmentation.{name}` must be a probability in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class View:
    """How a crop is seen: mirrored, then turned and magnified about its centre, then moved."""

    flip: bool = False
    angle: float = 0.0  # radians, from the x axis (right) towards the y axis (down)
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)  # (x, y), fractions of the crop's sides

    @classmethod
    def sample(cls, settings: Augmentation, rng: np.random.Generator, tilt: float = math.nan) -> "View":
        """Draw a view of a body that is tilted by so many radians in the picture, NaN if that is not known."""
        limit = math.radians(settings.rotation_degrees)
        angle = rng.uniform(-limit, limit) if rng.random() < settings.rotation else 0.0
        if settings.quarter_turns and rng.random() < settings.quarter_turns:
            angle += math.pi / 2 * rng.integers(1, 4)
        scales, farthest = (1.0 / settings.scale, settings.scale), settings.shift
        if settings.misfit and rng.random() < settings.misfit:
            scales, farthest = MISFIT_SCALES, MISFIT_SHIFT
        scale = math.exp(rng.uniform(*np.log(scales)))
        shift_x, shift_y = rng.uniform(-farthest, farthest, 2)
        flip = bool(rng.random() < settings.flip)
        if settings.upright and rng.random() < settings.upright and math.isfinite(tilt):
            angle += tilt if flip else -tilt  # a mirrored body leans to the other side
        return cls(flip, angle, scale, (shift_x, shift_y))

    @property
    def world(self) -> np.ndarray:
        """`(3, 3)` orthogonal matrix that moves 3D positions along with the picture."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        mirror = -1.0 if self.flip else 1.0
        return np.array([[cos * mirror, -sin, 0.0], [sin * mirror, cos, 0.0], [0.0, 0.0, 1.0]])

    def affine(self, crop_affine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Map `(2, 3)`, px of the picture to px of this view, from the plain crop's map and size (height, width)."""
        height, width = size
        centre = np.array([width / 2, height / 2])
        linear = self.scale * self.world[:2, :2]
        moved = centre + np.array(self.shift) * (width, height)
        outer = np.column_stack([linear, moved - linear @ centre])  # (2, 3)
        return outer @ np.vstack([crop_affine, (0.0, 0.0, 1.0)])


@dataclass(frozen=True)
class PartOfBody:
    """What a view shows of a body: the joints to one side of a cut across it.

    Args:
        box: x, y, width and height in px, what the crop is made for.
        frame: left, top, right and bottom in px where the picture ends, as a portrait does; None if it goes on.
    """

    box: Sequence[float]
    frame: tuple[float, float, float, float] | None = None

    @classmethod
    def sample(
        cls, points: np.ndarray, tilt: float, whole: Sequence[float], rng: np.random.Generator
    ) -> "PartOfBody | None":
        """Draw a part of a body and how it is seen, None where too few of its joints are known.

        Of `points` (joints, 2) px, NaN where unknown or beyond the picture, of a body that is tilted by so many
        radians, and its box.
        """
        if not (math.isfinite(tilt) and np.isfinite(points).any()):
            return None
        depths = points @ np.array([-math.sin(tilt), math.cos(tilt)])  # (joints,) px from top to bottom
        top, bottom = np.nanmin(depths), np.nanmax(depths)
        is_upper = rng.random() < UPPER_SHARE
        cut = top + rng.uniform(*(UPPER_CUTS if is_upper else LOWER_CUTS)) * (bottom - top)
        part = points[depths <= cut if is_upper else depths >= cut]
        if len(part) < FEWEST_OF_PART:
            return None
        low, high = part.min(axis=0), part.max(axis=0)
        size = (high - low).max().clip(min=1.0)
        margin = PART_MARGIN * size
        box = [*(low - margin).tolist(), *(high - low + 2 * margin).tolist()]
        left, up, right, down = size * rng.uniform(*FRAME_MARGINS, 4)
        frame = low[0] - left, low[1] - up, high[0] + right, high[1] + down
        of_frame = [*frame[:2], frame[2] - frame[0], frame[3] - frame[1]]
        ways = [cls(box), cls(box), cls(box, frame), cls(of_frame, frame), cls(whole, frame)]
        return ways[rng.integers(len(ways))]


def augment_appearance(image: Image.Image, settings: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Change how a crop looks, not where anything is: sharpness, colours, noise, compression, in a camera's order."""
    if rng.random() < settings.downscale:
        factor = rng.uniform(1.0, 4.0)
        small = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
        image = image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)
    if rng.random() < settings.blur:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.0, settings.blur_radius_px)))
    if settings.colour > 0.0 or settings.greyscale > 0.0:
        image = change_colours(image, settings, rng)
    if rng.random() < settings.noise:
        # uniform noise is three times faster to draw than Gaussian noise
        pixels, half_width = np.asarray(image), round(math.sqrt(3.0) * rng.uniform(0.0, 16.0))
        noise = rng.integers(-half_width, half_width, pixels.shape, dtype=np.int8, endpoint=True)
        image = Image.fromarray((pixels + noise.astype(np.int16)).clip(0, 255).astype(np.uint8))
    if rng.random() < settings.jpeg:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(15, 80)))
        image = Image.open(buffer).convert("RGB")
    return image


def change_colours(image: Image.Image, settings: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast, saturation and channel gains by one matrix, then gamma by one table."""
    strength = settings.colour
    saturation = 0.0 if rng.random() < settings.greyscale else max(0.0, 1.0 + strength * rng.uniform(-1.0, 1.0))
    contrast = math.exp(0.7 * strength * rng.uniform(-1.0, 1.0))
    gains = np.exp(0.25 * strength * rng.uniform(-1.0, 1.0, 3)) * contrast
    matrix = gains[:, None] * (saturation * np.eye(3) + (1.0 - saturation) * LUMA)  # (3, 3)
    offset = (1.0 - contrast) * 128.0 + 60.0 * strength * rng.uniform(-1.0, 1.0)
    image = image.convert("RGB", tuple(np.column_stack([matrix, np.full(3, offset)]).ravel().tolist()))
    gamma = math.exp(0.5 * strength * rng.uniform(-1.0, 1.0))
    table = np.rint(255.0 * np.linspace(0.0, 1.0, 256) ** gamma).astype(np.uint8)
    return Image.fromarray(table[np.asarray(image)])


def sample_cutouts(
    settings: Augmentation, size: tuple[int, int], rng: np.random.Generator
) -> list[tuple[slice, slice]]:
    """Draw the rectangles of a crop to cover, as (rows, columns) in px."""
    if rng.random() >= settings.cutout:
        return []
    rectangles = []
    for _ in range(rng.integers(1, 4)):
        sides = rng.uniform(0.08, 0.4, 2) * size
        start = rng.uniform(-0.5, 0.5, 2) * sides + rng.uniform(0.0, 1.0, 2) * (np.array(size) - sides)
        (top, left), (bottom, right) = start.clip(0).astype(int), (start + sides).clip(0).astype(int)
        rectangles.append((slice(int(top), int(bottom)), slice(int(left), int(right))))
    return rectangles


def cover(pixels: np.ndarray, rectangles: list[tuple[slice, slice]], rng: np.random.Generator) -> None:
    """Fill rectangles of a crop `(height, width, 3)` uint8 in place, each with one colour or with noise."""
    for rows, columns in rectangles:
        area = pixels[rows, columns]
        shape = area.shape if rng.random() < 0.5 else (3,)
        area[...] = rng.integers(0, 256, shape, dtype=np.uint8)


class AugmentedExamples(PoseExamples):
    """Turns rows into views of people with their labels, each sampled from the picture once."""

    def __init__(self, processor: JointDetrImageProcessorMixin, skeleton: Skeleton, augmentation: Augmentation):
        super().__init__(processor, skeleton)
        self.augmentation = augmentation
        self._flip = np.array(flip_permutation(skeleton.flip_pairs, len(skeleton.joints)))

    def _example(self, row: dict, rng: np.random.Generator) -> Example:
        points = np.where(np.array(row["joints_2d_valid"])[:, None], np.array(row["joints_2d"], np.float64), np.nan)
        asks = self.augmentation.upright or self.augmentation.half_body
        tilt = body_tilt(torch.from_numpy(points), self.skeleton).item() if asks else math.nan
        view = View.sample(self.augmentation, rng, tilt)
        image = load_picture(open_stored(row["image"]), "image")
        part = PartOfBody(row["box"])
        if self.augmentation.half_body and rng.random() < self.augmentation.half_body:
            shown = np.where(inside_picture(points, image.size)[:, None], points, np.nan)
            part = PartOfBody.sample(shown, tilt, row["box"], rng) or part
        affine = torch.from_numpy(view.affine(self.cropper.affine(part.box).numpy(), self.cropper.size))
        cutouts = sample_cutouts(self.augmentation, self.cropper.size, rng)
        if part.frame is not None:
            image, row = _framed(image, row, part.frame)
        crop = augment_appearance(self.cropper.draw(image, affine), self.augmentation, rng)
        pixels = np.array(crop)  # (height, width, 3), a copy
        cover(pixels, cutouts, rng)
        labels = self.labels(row, affine)
        if view.flip:
            labels = {name: values[self._flip] if values.ndim else values for name, values in labels.items()}
        return {"pixel_values": torch.from_numpy(self.cropper.pixel_values([pixels])[0]), "labels": labels}


def _framed(image: Image.Image, row: dict, frame: Sequence[float]) -> tuple[Image.Image, dict]:
    """Blacken a picture beyond a frame, where nothing is visible."""
    low, high = np.floor(np.clip(frame[:2], 0, None)), np.ceil(np.clip(frame[2:], None, image.size))  # px
    shown = Image.new(image.mode, image.size)
    corner = tuple(low.astype(int).tolist())
    shown.paste(image.crop((*corner, *high.astype(int).tolist())), corner)
    points = np.array(row["joints_2d"], np.float64)
    beyond = ((points < low) | (points > high)).any(axis=-1)  # what has no label may be anywhere
    return shown, row | {"visible": (np.array(row["visible"], dtype=bool) & ~beyond).tolist()}


class AugmentationEpoch(TrainerCallback):
    """Tells the training data the epoch, so that every epoch has its own views.

    `Trainer` does so by itself in a plain run, but neither with several processes nor after a resume in mid-epoch:
    there accelerate tells the sampler alone. Workers start with the epoch, after this.
    """

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Pass on the number of the epoch that begins or, after a resume, goes on."""
        kwargs["train_dataloader"].dataset.set_epoch(int(state.epoch + 1e-6))
