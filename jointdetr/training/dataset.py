"""Pose datasets' rows as training examples: `{"pixel_values": (3, height, width), "labels": {...}}`.

Shape vocabulary: `joints` (J), `height` and `width` of the network's input in pixels. 3D labels are root-relative
millimetres in camera axes, 2D labels are in `[0, 1]` of the network's input.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import torch
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor

from ..data.fitting import fitting_rows
from ..data.loading import check_row, check_rows, describe_row, open_stored, undecoded
from ..data.schema import decode_depth_map
from ..geometry_jointdetr import crop_intrinsics, flip_permutation
from ..image_processing_jointdetr import person_crop_affine, warp_image
from ..picture_jointdetr import load_picture
from ..skeleton_jointdetr import Skeleton
from ..upright_jointdetr import body_tilt
from .augmentation import (
    IGNORED_PART,
    Augmentation,
    View,
    augment_appearance,
    cover,
    half_body_box,
    mirrored_parts,
    sample_cutouts,
    sample_map,
)

LEG_JOINTS = ("knee", "ankle", "heel", "foot", "toe")  # parts of the names of joints below the hips
_MAPS = ("part_map", "depth_map")
_OUTSIDE_PART = 255  # becomes IGNORED_PART once the map is signed


@dataclass(frozen=True)
class CropSettings:
    """How a person becomes the network's input, the same as in the image processor.

    Args:
        height, width: size of the network's input in px.
        padding: factor on the row's box.
        image_mean, image_std: of the three channels, in [0, 1].
        dense_reduction: make `part_map` and `depth_map` this many times smaller than the input; None leaves them out.
    """

    height: int = 256
    width: int = 256
    padding: float = 1.25
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    dense_reduction: int | None = None

    @classmethod
    def from_processor(cls, processor: BaseImageProcessor, dense_reduction: int | None = None) -> "CropSettings":
        """Take over an image processor's settings."""
        return cls(
            height=processor.size["height"],
            width=processor.size["width"],
            padding=processor.box_padding,
            image_mean=tuple(processor.image_mean),
            image_std=tuple(processor.image_std),
            dense_reduction=dense_reduction,
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in px."""
        return self.height, self.width


@dataclass(frozen=True)
class _StoredMaps:
    """Dense maps as they are stored: `part`, `depth` (height, width), and px of the picture per px of the maps."""

    part: np.ndarray
    depth: np.ndarray
    scale: float


class PoseExamples:
    """Turns rows into crops of people with their labels, augmented or plain.

    Args:
        skeleton: the skeleton of the rows' joints.
        crop: how a person becomes the network's input. Boxes are the rows' own.
        augmentation: how far views go; None takes the plain crop, for evaluation.
    """

    def __init__(self, skeleton: Skeleton, crop: CropSettings, augmentation: Augmentation | None = None):
        self.skeleton = skeleton
        self.crop = crop
        self.augmentation = augmentation
        self._flip = np.array(flip_permutation(skeleton.flip_pairs, len(skeleton.joints)))
        self._legs = np.array([any(part in name for part in LEG_JOINTS) for name in skeleton.joints])
        self._mirrored_parts = mirrored_parts()

    def example(self, row: dict, rng: np.random.Generator) -> dict[str, torch.Tensor | dict[str, torch.Tensor]]:
        """Return the example of a row whose pictures are not decoded yet; see `PoseDataset.__getitem__`.

        Raises:
            ValueError: A label is not what it should be, or the picture cannot be read; the row is named.
        """
        try:
            check_row(row, self.skeleton)
            return self._example(row, rng)
        except (OSError, ValueError) as error:
            raise ValueError(f"{describe_row(row)}: {error}") from error

    def pose_labels(self, row: dict) -> dict[str, torch.Tensor]:
        """Return the joints of a row as the plain crop shows them, without reading its picture."""
        affine = person_crop_affine(row["box"], self.crop.size, self.crop.padding)
        return self._pose_labels(row, View(), affine.numpy())

    def camera_labels(self, row: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Where a row's root is in camera space, and the plain crop's camera.

        Returns:
            `(3,)` mm and intrinsics `(3, 3)` in px of the network's input, each NaN where unknown.
        """
        root = self.skeleton.root
        position = torch.tensor(row["joints_3d"][root], dtype=torch.float64)
        affine = person_crop_affine(row["box"], self.crop.size, self.crop.padding)
        intrinsics = crop_intrinsics(torch.tensor(row["intrinsics"], dtype=torch.float64), affine.double())
        known = bool(row["joints_3d_valid"][root]) and row["intrinsics"][0][0] > 0.0
        return (position, intrinsics) if known else (position * torch.nan, intrinsics * torch.nan)

    def _example(self, row: dict, rng: np.random.Generator) -> dict[str, torch.Tensor | dict[str, torch.Tensor]]:
        view = View() if self.augmentation is None else View.sample(self.augmentation, rng, self._tilt(row))
        crop_affine = person_crop_affine(self._box(row, rng), self.crop.size, self.crop.padding).numpy()
        affine = view.affine(crop_affine, self.crop.size)  # (2, 3) original px -> input px
        cutouts = [] if self.augmentation is None else sample_cutouts(self.augmentation, self.crop.size, rng)
        labels = self._pose_labels(row, view, affine)
        image = load_picture(open_stored(row["image"]), "image")
        if self.crop.dense_reduction is not None:
            labels |= self._dense_labels(_open_maps(row, image.width), view, affine, cutouts)
        return {"pixel_values": self._pixel_values(image, affine, cutouts, rng), "labels": labels}

    def _tilt(self, row: dict) -> float:
        """How far the body is from upright in the picture, in radians; NaN where not known or not asked for."""
        if not self.augmentation.upright:
            return np.nan
        return body_tilt(torch.from_numpy(_known_points(row)), self.skeleton).item()

    def _box(self, row: dict, rng: np.random.Generator) -> list[float]:
        """The row's box, or one around half of the body."""
        share = 0.0 if self.augmentation is None else self.augmentation.half_body
        half = half_body_box(_known_points(row), self._legs, rng) if share and rng.random() < share else None
        return row["box"] if half is None else half

    def _pixel_values(
        self, image: Image.Image, affine: np.ndarray, cutouts: list[tuple[slice, slice]], rng: np.random.Generator
    ) -> torch.Tensor:
        """Warp, change the appearance and normalise: `(3, height, width)`."""
        crop = warp_image(image, torch.from_numpy(affine), self.crop.size)
        if self.augmentation is not None:
            crop = augment_appearance(crop, self.augmentation, rng)
        pixels = np.array(crop)  # (height, width, 3), a copy
        cover(pixels, cutouts, rng)
        gain = (1.0 / (255.0 * np.array(self.crop.image_std))).astype(np.float32)
        offset = (np.array(self.crop.image_mean) / self.crop.image_std).astype(np.float32)
        channels = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
        return torch.from_numpy(channels * gain[:, None, None] - offset[:, None, None])

    def _pose_labels(self, row: dict, view: View, affine: np.ndarray) -> dict[str, torch.Tensor]:
        """Joints of the view; a mirrored one trades left and right."""
        order = self._flip if view.flip else slice(None)
        root = self.skeleton.root
        joints = np.array(row["joints_3d"], dtype=np.float64)  # (J, 3) camera space
        valid_3d = np.array(row["joints_3d_valid"])
        valid_3d = valid_3d & valid_3d[root]
        joints = np.where(valid_3d[:, None], (joints - joints[root]) @ view.world.T, np.nan)[order]
        points = np.array(row["joints_2d"], dtype=np.float64)  # (J, 2) px
        valid_2d = np.array(row["joints_2d_valid"])
        points = (points @ affine[:, :2].T + affine[:, 2]) / (self.crop.width, self.crop.height)
        points = np.where(valid_2d[:, None], points, np.nan)[order]
        visible = np.array(row["visible"])[order]
        beside = ((points < 0) | (points > 1)).any(axis=-1)  # of the crop, which shows less than the picture
        return {
            "joints_3d": torch.from_numpy(joints.astype(np.float32)),
            "joints_3d_valid": torch.from_numpy(valid_3d[order]),
            "joints_2d": torch.from_numpy(points.astype(np.float32)),
            "joints_2d_valid": torch.from_numpy(valid_2d[order]),
            "visible": torch.from_numpy(visible & ~beside),
            "nobody": torch.tensor(bool(row.get("nobody"))),
        }

    def _dense_labels(
        self, maps: _StoredMaps | None, view: View, affine: np.ndarray, cutouts: list[tuple[slice, slice]]
    ) -> dict[str, torch.Tensor]:
        """Part and depth map of the view; unknown outside the picture and under a cut-out."""
        reduction = self.crop.dense_reduction
        size = (self.crop.height // reduction, self.crop.width // reduction)
        if maps is None:
            unknown = torch.full(size, IGNORED_PART, dtype=torch.int64)
            return {"part_map": unknown, "depth_map": torch.full(size, torch.nan)}
        map_affine = affine * (maps.scale, maps.scale, 1.0) / reduction
        parts = sample_map(maps.part, map_affine, size, outside=_OUTSIDE_PART).astype(np.int64)
        depths = decode_depth_map(sample_map(maps.depth, map_affine, size, outside=0))
        known = parts != _OUTSIDE_PART
        for rows, columns in cutouts:
            known[_reduced(rows, reduction), _reduced(columns, reduction)] = False
        if view.flip:
            parts = self._mirrored_parts[np.where(known, parts, 0)]
        parts = np.where(known, parts, IGNORED_PART)
        depths = np.where(known, depths, np.float32(np.nan))
        return {"part_map": torch.from_numpy(parts), "depth_map": torch.from_numpy(depths)}


class PoseDataset(torch.utils.data.Dataset):
    """Crops of a pose dataset's people with their labels, augmented or plain.

    An example depends on the seed, the epoch and its index alone, not on workers or on the order of access. With
    augmentation, call `set_epoch` before each epoch; in `Trainer`, let the callback `AugmentationEpoch` do it.

    Args:
        rows: dataset with the columns of `jointdetr.data.schema.pose_features`; what `fitting_rows` leaves out is not
            in the dataset.
        skeleton: the skeleton of its joints.
        crop: how a person becomes the network's input. Boxes are the rows' own.
        augmentation: how far views go; None takes the plain crop, for evaluation.
        seed: of the augmentation.

    Raises:
        ValueError: The rows lack a column, or belong to another skeleton.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        skeleton: Skeleton,
        crop: CropSettings,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        check_rows(rows, skeleton)
        self.rows = undecoded(fitting_rows(rows).with_format(None))
        pictures = [name for name in ("image", *_MAPS) if name in rows.column_names]
        self._poses = self.rows.remove_columns(pictures)
        self.examples = PoseExamples(skeleton, crop, augmentation)
        self.seed = seed
        self.epoch = 0

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the joints."""
        return self.examples.skeleton

    @property
    def crop(self) -> CropSettings:
        """How a person becomes the network's input."""
        return self.examples.crop

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Draw other views than in the epochs before."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | dict[str, torch.Tensor]]:
        """Return example `index`.

        Returns:
            `pixel_values` `(3, height, width)` float32 and `labels`: `joints_3d` `(J, 3)` root-relative mm,
            `joints_3d_valid` `(J,)`, `joints_2d` `(J, 2)` in [0, 1] of the input, `joints_2d_valid` `(J,)`,
            `visible` `(J,)` inside the view, `nobody` `()`, and with `dense_reduction` `part_map` `(h, w)` int64 and
            `depth_map` `(h, w)` mm. What is not valid is NaN.
        """
        rng = np.random.default_rng((self.seed, self.epoch, index))
        try:
            return self.examples.example(self.rows[index], rng)
        except ValueError as error:
            raise ValueError(f"row {index}: {error}") from error

    def pose_labels(self, index: int) -> dict[str, torch.Tensor]:
        """Return the joints of example `index` as the plain crop shows them, without reading its picture."""
        return self.examples.pose_labels(self._poses[index])

    def camera_labels(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Where row `index`'s root is in camera space `(3,)` mm, and the plain crop's camera `(3, 3)` px, or NaN."""
        return self.examples.camera_labels(self._poses[index])


class PoseMixture(torch.utils.data.ConcatDataset):
    """Several pose datasets one after another, to be shuffled by the sampler; one may occur several times."""

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on."""
        for part in self.datasets:
            part.set_epoch(epoch)

    def pose_labels(self, index: int) -> dict[str, torch.Tensor]:
        """Return the joints of example `index` as the plain crop shows them, without reading its picture."""
        part = bisect_right(self.cumulative_sizes, index)
        return self.datasets[part].pose_labels(index - (self.cumulative_sizes[part - 1] if part else 0))


def collate_poses(examples: Sequence[dict]) -> dict[str, torch.Tensor | list[dict[str, torch.Tensor]]]:
    """Make a batch: `pixel_values` `(batch, 3, height, width)` and `labels`, a list of one dictionary per crop."""
    return {
        "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
        "labels": [example["labels"] for example in examples],
    }


def stack_labels(labels: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack the labels of a batch, `(batch, ...)` each, which travel between processes and devices as few tensors."""
    return {name: torch.stack([label[name] for label in labels]) for name in labels[0]}


def unstack_labels(stacked: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Undo `stack_labels`."""
    rows = zip(*(values.unbind() for values in stacked.values()), strict=True)
    return [dict(zip(stacked, row, strict=True)) for row in rows]


def _known_points(row: dict) -> np.ndarray:
    """2D labels of a row `(J, 2)` px, NaN where there is none."""
    return np.where(np.array(row["joints_2d_valid"])[:, None], np.array(row["joints_2d"], dtype=np.float64), np.nan)


def _open_maps(row: dict, image_width: int) -> _StoredMaps | None:
    """Decode a row's dense maps, if it has them."""
    if any(row.get(name) is None for name in _MAPS):
        return None
    part, depth = (np.asarray(open_stored(row[name])) for name in _MAPS)
    return _StoredMaps(part, depth, image_width / part.shape[1])


def _reduced(pixels: slice, reduction: int) -> slice:
    """Map px that a range of input px touches."""
    return slice(pixels.start // reduction, -(-pixels.stop // reduction))
