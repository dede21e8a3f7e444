"""Pose datasets' rows as examples: `{"pixel_values": (3, height, width), "labels": {...}}`.

A row is cropped, normalised and labelled as the image processor is set, so that a model is trained and evaluated on
what it is shown at inference. Training's augmented examples are in `jointdetr/training/augmentation.py`.

Shape vocabulary: `joints` (J), `height` and `width` of the network's input in pixels. 3D labels are root-relative
millimetres in camera axes, 2D labels are in `[0, 1]` of the network's input.
"""

from bisect import bisect_right
from collections.abc import Sequence

import datasets
import numpy as np
import torch

from ..camera_jointdetr import crop_intrinsics
from ..image_processing_jointdetr import JointDetrImageProcessorMixin
from ..picture_jointdetr import crop_labels, load_picture
from ..skeleton_jointdetr import Skeleton
from .loading import check_row, check_rows, describe_row, fitting_rows, open_stored, undecoded

Labels = dict[str, torch.Tensor]
Example = dict[str, torch.Tensor | Labels]


class PoseExamples:
    """Turns rows into plain crops of people with their labels, as the processor is set now, by the rows' own boxes."""

    def __init__(self, processor: JointDetrImageProcessorMixin, skeleton: Skeleton):
        self.skeleton = skeleton
        self.cropper = processor.cropper()

    def example(self, row: dict, rng: np.random.Generator) -> Example:
        """Return the example of a row whose pictures are not decoded yet; see `PoseDataset.__getitem__`."""
        try:
            check_row(row, self.skeleton)
            return self._example(row, rng)
        except (OSError, ValueError) as error:
            raise ValueError(f"{describe_row(row)}: {error}") from error

    def _example(self, row: dict, rng: np.random.Generator) -> Example:
        """Crop and label a checked row; `rng` is for those that draw a view."""
        affine = self.cropper.affine(row["box"])  # (2, 3)
        crop = self.cropper.draw(load_picture(open_stored(row["image"]), "image"), affine)
        pixel_values = torch.from_numpy(self.cropper.pixel_values([crop])[0])
        return {"pixel_values": pixel_values, "labels": self.labels(row, affine)}

    def labels(self, row: dict, affine: torch.Tensor) -> Labels:
        """Labels of a row in a crop (2, 3)."""
        labels = crop_labels(row, affine.numpy(), self.cropper.size, self.skeleton.root)
        return {name: torch.from_numpy(values) for name, values in labels.items()}


class PoseDataset(torch.utils.data.Dataset):
    """Examples of a pose dataset's people.

    An example depends on the seed, the epoch and its index alone, not on workers or on the order of access. With
    augmented examples, call `set_epoch` before each epoch; in `Trainer`, let the callback `AugmentationEpoch` do it.

    Args:
        rows: dataset with the columns of `jointdetr.data.schema.pose_features`; what `fitting_rows` leaves out is not
            in the dataset.
        examples: turns rows into examples: [`PoseExamples`] for evaluation, `AugmentedExamples` for training.
        seed: of what is drawn in augmented examples.
    """

    def __init__(self, rows: datasets.Dataset, examples: PoseExamples, seed: int = 0):
        check_rows(rows, examples.skeleton)
        self.rows = undecoded(fitting_rows(rows).with_format(None))
        pictures = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
        self._poses = self.rows.remove_columns(pictures)
        self.examples = examples
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Draw other views than in the epochs before."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Example:
        """Return example `index`.

        Returns:
            `pixel_values` `(3, height, width)` float32 and `labels`: `joints_3d` `(J, 3)` root-relative mm,
            `joints_3d_valid` `(J,)`, `joints_2d` `(J, 2)` in [0, 1] of the input, `joints_2d_valid` `(J,)`,
            `visible` `(J,)` inside the view, and `nobody` `()`. What is not valid is NaN.
        """
        rng = np.random.default_rng((self.seed, self.epoch, index))
        try:
            return self.examples.example(self.rows[index], rng)
        except ValueError as error:
            raise ValueError(f"row {index}: {error}") from error

    def pose_labels(self, index: int) -> Labels:
        """Return the joints of example `index` as the plain crop shows them, without reading its picture."""
        row = self._poses[index]
        return self.examples.labels(row, self.examples.cropper.affine(row["box"]))

    def camera_labels(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Where row `index`'s root is in camera space `(3,)` mm, and the plain crop's camera `(3, 3)` px, or NaN."""
        row, root = self._poses[index], self.examples.skeleton.root
        position = torch.tensor(row["joints_3d"][root], dtype=torch.float64)
        intrinsics = torch.tensor(row["intrinsics"], dtype=torch.float64)
        intrinsics = crop_intrinsics(intrinsics, self.examples.cropper.affine(row["box"]))
        known = bool(row["joints_3d_valid"][root]) and row["intrinsics"][0][0] > 0.0
        return (position, intrinsics) if known else (position * torch.nan, intrinsics * torch.nan)


class PoseMixture(torch.utils.data.ConcatDataset):
    """Several pose datasets one after another, to be shuffled by the sampler; one may occur several times."""

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on."""
        for part in self.datasets:
            part.set_epoch(epoch)

    def pose_labels(self, index: int) -> Labels:
        """Return the joints of example `index` as the plain crop shows them, without reading its picture."""
        part = bisect_right(self.cumulative_sizes, index)
        return self.datasets[part].pose_labels(index - (self.cumulative_sizes[part - 1] if part else 0))


def collate_poses(examples: Sequence[Example]) -> dict[str, torch.Tensor | list[Labels]]:
    """Make a batch: `pixel_values` `(batch, 3, height, width)` and `labels`, a list of one dictionary per crop."""
    return {
        "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
        "labels": [example["labels"] for example in examples],
    }


def stack_labels(labels: Sequence[Labels]) -> Labels:
    """Stack the labels of a batch, `(batch, ...)` each, which travel between processes and devices as few tensors."""
    return {name: torch.stack([label[name] for label in labels]) for name in labels[0]}


def unstack_labels(stacked: Labels) -> list[Labels]:
    """Undo `stack_labels`."""
    rows = zip(*(values.unbind() for values in stacked.values()), strict=True)
    return [dict(zip(stacked, row, strict=True)) for row in rows]
