"""Rows as augmented training examples: one view of a person, whose picture and joints move together.

Shape vocabulary: as in `jointdetr/data/examples.py`.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..crops_jointdetr import body_tilt
from ..data.examples import Example, PoseExamples
from ..data.loading import open_stored
from ..geometry_jointdetr import flip_permutation
from ..image_processing_jointdetr import JointDetrImageProcessorMixin
from ..picture_jointdetr import load_picture
from ..skeleton_jointdetr import Skeleton
from .augmentation import Augmentation, View, augment_appearance, cover, half_body_box, sample_cutouts

LEG_JOINTS = ("knee", "ankle", "heel", "foot", "toe")  # parts of the names of joints below the hips


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
    """

    def __init__(self, processor: JointDetrImageProcessorMixin, skeleton: Skeleton, augmentation: Augmentation):
        super().__init__(processor, skeleton)
        self.augmentation = augmentation
        self._flip = np.array(flip_permutation(skeleton.flip_pairs, len(skeleton.joints)))
        self._legs = np.array([any(part in name for part in LEG_JOINTS) for name in skeleton.joints])

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
