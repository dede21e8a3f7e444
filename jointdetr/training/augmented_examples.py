"""Rows as augmented training examples: one view of a person, whose picture, joints and dense maps move together.

Shape vocabulary: as in `jointdetr/data/examples.py`.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..crops_jointdetr import body_tilt
from ..data.examples import MAPS, Example, Labels, PoseExamples
from ..data.loading import open_stored
from ..data.schema import decode_depth_map
from ..geometry_jointdetr import flip_permutation
from ..image_processing_jointdetr import JointDetrImageProcessorMixin
from ..picture_jointdetr import load_picture
from ..skeleton_jointdetr import Skeleton
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
_OUTSIDE_PART = 255  # becomes IGNORED_PART once the map is signed


@dataclass(frozen=True)
class _DrawnView:
    """What was drawn for an example: where it looks, and what of the crop is covered."""

    flip: bool
    affine: np.ndarray  # (2, 3) px of the picture -> px of the input
    cutouts: list[tuple[slice, slice]]


class AugmentedExamples(PoseExamples):
    """Turns rows into views of people with their labels, each sampled from the picture once.

    Args:
        processor: crops and normalises; changes to it later are not seen.
        skeleton: the skeleton of the rows' joints.
        augmentation: how far views go.
        dense_reduction: make `part_map` and `depth_map` this many times smaller than the input; None leaves them out.
    """

    def __init__(
        self,
        processor: JointDetrImageProcessorMixin,
        skeleton: Skeleton,
        augmentation: Augmentation,
        dense_reduction: int | None = None,
    ):
        super().__init__(processor, skeleton)
        self.augmentation = augmentation
        self.dense_reduction = dense_reduction
        self._flip = np.array(flip_permutation(skeleton.flip_pairs, len(skeleton.joints)))
        self._legs = np.array([any(part in name for part in LEG_JOINTS) for name in skeleton.joints])
        self._mirrored_parts = mirrored_parts()

    def _example(self, row: dict, rng: np.random.Generator) -> Example:
        view = self._draw_view(row, rng)
        affine = torch.from_numpy(view.affine)
        image = load_picture(open_stored(row["image"]), "image")
        crop = augment_appearance(self.cropper.draw(image, affine), self.augmentation, rng)
        pixels = np.array(crop)  # (height, width, 3), a copy
        cover(pixels, view.cutouts, rng)
        labels = self._labels(row, affine)
        if view.flip:
            labels = {name: values[self._flip] if values.ndim else values for name, values in labels.items()}
        if self.dense_reduction is not None:
            labels |= self._dense_labels(row, image.width, view)
        return {"pixel_values": torch.from_numpy(self.cropper.pixel_values([pixels])[0]), "labels": labels}

    def _draw_view(self, row: dict, rng: np.random.Generator) -> _DrawnView:
        """Draw where an example looks."""
        points = np.where(np.array(row["joints_2d_valid"])[:, None], np.array(row["joints_2d"], np.float64), np.nan)
        tilt = body_tilt(torch.from_numpy(points), self.skeleton).item() if self.augmentation.upright else np.nan
        view = View.sample(self.augmentation, rng, tilt)
        share, half = self.augmentation.half_body, None
        if share and rng.random() < share:
            half = half_body_box(points, self._legs, rng)
        plain = self.cropper.affine(row["box"] if half is None else half).numpy()
        affine = view.affine(plain, self.cropper.size)
        return _DrawnView(view.flip, affine, sample_cutouts(self.augmentation, self.cropper.size, rng))

    def _dense_labels(self, row: dict, image_width: int, view: _DrawnView) -> Labels:
        """Part and depth map of the view; unknown outside the picture, under a cut-out and where a row has none."""
        reduction = self.dense_reduction
        size = (self.cropper.size[0] // reduction, self.cropper.size[1] // reduction)
        if any(row.get(name) is None for name in MAPS):
            unknown = torch.full(size, IGNORED_PART, dtype=torch.int64)
            return {"part_map": unknown, "depth_map": torch.full(size, torch.nan)}
        part_map, depth_map = (np.asarray(open_stored(row[name])) for name in MAPS)
        scale = image_width / part_map.shape[1]  # px of the picture per px of the stored maps
        affine = view.affine * (scale, scale, 1.0) / reduction
        parts = sample_map(part_map, affine, size, outside=_OUTSIDE_PART).astype(np.int64)
        depths = decode_depth_map(sample_map(depth_map, affine, size, outside=0))
        known = parts != _OUTSIDE_PART
        for rows, columns in view.cutouts:
            known[_reduced(rows, reduction), _reduced(columns, reduction)] = False
        if view.flip:
            parts = self._mirrored_parts[np.where(known, parts, 0)]
        parts = np.where(known, parts, IGNORED_PART)
        depths = np.where(known, depths, np.float32(np.nan))
        return {"part_map": torch.from_numpy(parts), "depth_map": torch.from_numpy(depths)}


def _reduced(pixels: slice, reduction: int) -> slice:
    """Map px that a range of input px touches."""
    return slice(pixels.start // reduction, -(-pixels.stop // reduction))
