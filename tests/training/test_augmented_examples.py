"""Rows as augmented training examples."""

import numpy as np
import pytest
import torch
from pose_examples import SIDE_PX, STILL, make_row, make_rows

from jointdetr import JointDetrImageProcessorPil
from jointdetr.data.examples import PoseDataset, PoseExamples, PoseMixture, collate_poses
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training.augmentation import Augmentation
from jointdetr.training.augmented_examples import AugmentedExamples

GEOMETRY_ALONE = Augmentation(colour=0, greyscale=0, blur=0, downscale=0, jpeg=0, noise=0, cutout=0)
PROCESSOR = JointDetrImageProcessorPil(size={"height": 64, "width": 64}, do_normalize=False)
PLAIN = PoseExamples(PROCESSOR, HUMAN36M)


def views(augmentation: Augmentation) -> AugmentedExamples:
    return AugmentedExamples(PROCESSOR, HUMAN36M, augmentation)


def blob_rows(joint: int, seed: int = 0):
    """One row whose picture is black but for a bright spot at one joint."""
    centre = np.array(make_row(seed)["joints_2d"][joint])
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5
    spot = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 1.5**2))
    return make_rows([make_row(seed, np.repeat(spot[..., None], 3, axis=2).astype(np.uint8))])


@pytest.mark.parametrize("joint", [0, 3, 13])
def test_the_picture_shows_a_joint_where_its_label_says(joint):
    dataset = PoseDataset(blob_rows(joint), views(GEOMETRY_ALONE))
    flips = 0
    for epoch in range(12):
        dataset.set_epoch(epoch)
        example = dataset[0]
        points, spot = example["labels"]["joints_2d"] * 64, example["pixel_values"][0]
        y, x = np.mgrid[:64, :64] + 0.5
        found = torch.tensor([(spot * torch.from_numpy(grid)).sum() / spot.sum() for grid in (x, y)])
        distances = (points - found).norm(dim=-1)
        nearest = int(distances.argmin())
        mirrored = dataset.examples._flip[joint]
        flips += nearest == mirrored != joint
        assert nearest in (joint, mirrored)
        assert distances[nearest] < 0.35
    assert joint == 0 or 0 < flips < 12


def test_labels_of_a_view_reproject_up_to_the_depth_of_the_root():
    """3D and 2D of an augmented example agree for the camera that the view implies."""
    rows = make_rows([make_row(3)])
    plain = PoseDataset(rows, PLAIN)[0]["labels"]
    dataset = PoseDataset(rows, views(GEOMETRY_ALONE))
    for epoch in range(6):
        dataset.set_epoch(epoch)
        labels = dataset[0]["labels"]
        root_depth = rows[0]["joints_3d"][0][2]
        depth = labels["joints_3d"][:, 2:] + root_depth
        # x = focal * X / depth + centre is linear: a fit to all joints must leave nothing
        for axis in range(2):
            slopes = (labels["joints_3d"][:, axis : axis + 1]) / depth
            design = torch.cat([slopes, 1 / depth, torch.ones_like(depth)], dim=1).double()
            target = labels["joints_2d"][:, axis : axis + 1].double()
            solution = torch.linalg.lstsq(design, target).solution
            assert (design @ solution - target).abs().max() < 1e-5
        torch.testing.assert_close(labels["joints_3d"].norm(dim=1).sort()[0], plain["joints_3d"].norm(dim=1).sort()[0])


def test_examples_depend_on_seed_epoch_and_index_alone(pose_rows):
    first, second = (PoseDataset(pose_rows, views(Augmentation()), seed=4) for _ in range(2))
    second[3]
    assert torch.equal(first[2]["pixel_values"], second[2]["pixel_values"])
    second.set_epoch(1)
    assert not torch.equal(first[2]["labels"]["joints_2d"], second[2]["labels"]["joints_2d"])


def test_mixture_passes_the_epoch_on_and_batches_collate(pose_rows):
    parts = [PoseDataset(pose_rows, views(Augmentation()), seed) for seed in (0, 1)]
    mixture = PoseMixture(parts)
    mixture.set_epoch(3)
    assert [part.epoch for part in parts] == [3, 3]
    assert not torch.equal(mixture[0]["pixel_values"], mixture[8]["pixel_values"])  # the same row, another view
    batch = collate_poses([mixture[0], mixture[15]])
    assert batch["pixel_values"].shape == (2, 3, 64, 64)
    assert len(batch["labels"]) == 2


def test_a_view_that_stands_still_is_the_plain_example(pose_rows):
    still, plain = PoseDataset(pose_rows, views(STILL))[3], PoseDataset(pose_rows, PLAIN)[3]
    assert torch.equal(still["pixel_values"], plain["pixel_values"])
    for name, values in plain["labels"].items():
        assert torch.equal(still["labels"][name], values)


def test_views_are_cropped_and_normalised_as_the_processor_is_set(pose_rows):
    settings = {"do_rescale": False, "do_normalize": False, "resample": 0, "box_padding": 1.6}
    processor = JointDetrImageProcessorPil(size={"height": 48, "width": 64}, **settings)
    found = PoseDataset(pose_rows, AugmentedExamples(processor, HUMAN36M, STILL))[1]["pixel_values"]
    row = pose_rows[1]
    expected = processor(row["image"], boxes=[row["box"]], return_tensors="pt")["pixel_values"][0]
    assert torch.equal(found, expected)
    assert found.max() > 100
