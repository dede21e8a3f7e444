"""Augmented views and examples: picture, 2D, 3D and intrinsics move together."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image
from pose_examples import SIDE_PX, STILL, make_row, make_rows

from jointdetr import JointDetrImageProcessorPil
from jointdetr.data.examples import PoseDataset, PoseExamples, PoseMixture, collate_poses
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training import augmentation
from jointdetr.training.augmentation import (
    Augmentation,
    AugmentedExamples,
    PartOfBody,
    View,
    augment_appearance,
    change_colours,
    cover,
    sample_cutouts,
)

PLAIN_CROP = np.array([[0.8, 0.0, 5.0], [0.0, 0.8, -3.0]])
INTRINSICS = np.array([[900.0, 0, 310], [0, 900, 250], [0, 0, 1]])
VIEWS = {
    "plain": View(),
    "flip": View(flip=True),
    "turn": View(angle=0.5),
    "scale": View(scale=1.3),
    "shift": View(shift=(0.1, -0.05)),
    "all": View(flip=True, angle=-0.4, scale=0.8, shift=(-0.07, 0.03)),
}
GEOMETRY_ALONE = Augmentation(colour=0, greyscale=0, blur=0, downscale=0, jpeg=0, noise=0, cutout=0)
PROCESSOR = JointDetrImageProcessorPil(size={"height": 64, "width": 64}, do_normalize=False)
PLAIN = PoseExamples(PROCESSOR, HUMAN36M)


def project(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    homogeneous = points @ intrinsics.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def moved_intrinsics(view: View, intrinsics: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The camera that projects the moved world onto the view."""
    return np.vstack([affine, (0.0, 0.0, 1.0)]) @ intrinsics @ view.world.T


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("focal_y", [900.0, 700.0])
def test_moved_world_projects_onto_moved_points(name, focal_y):
    intrinsics = INTRINSICS.copy()
    intrinsics[1, 1] = focal_y
    world = np.random.default_rng(0).normal(0, 400, (17, 3)) + [200, -100, 4000]
    affine = VIEWS[name].affine(PLAIN_CROP, (96, 128))
    expected = project(world, intrinsics) @ affine[:, :2].T + affine[:, 2]
    moved = world @ VIEWS[name].world.T
    np.testing.assert_allclose(project(moved, moved_intrinsics(VIEWS[name], intrinsics, affine)), expected, atol=1e-9)


@pytest.mark.parametrize("name", VIEWS)
def test_equal_focal_lengths_stay_a_plain_camera(name):
    affine = VIEWS[name].affine(PLAIN_CROP, (96, 128))
    intrinsics = moved_intrinsics(VIEWS[name], INTRINSICS, affine)
    focal = 900 * 0.8 * VIEWS[name].scale
    np.testing.assert_allclose(intrinsics[:2, :2], np.diag([focal, focal]), atol=1e-9)


def test_a_turn_about_the_principal_point_leaves_the_camera_alone():
    size, angle = (100, 100), 0.7
    intrinsics = np.array([[300.0, 0, 50], [0, 300, 50], [0, 0, 1]])
    view = View(angle=angle)
    affine = view.affine(np.eye(3)[:2], size)
    np.testing.assert_allclose(moved_intrinsics(view, intrinsics, affine), intrinsics, atol=1e-9)
    right_of_centre = affine @ [60, 50, 1]
    np.testing.assert_allclose(right_of_centre, [50 + 10 * math.cos(angle), 50 + 10 * math.sin(angle)])


def test_the_centre_of_the_crop_moves_by_the_shift_alone():
    view = View(flip=True, angle=0.3, scale=1.4, shift=(0.25, -0.5))
    affine = view.affine(np.eye(3)[:2], (40, 80))
    np.testing.assert_allclose(affine @ [40, 20, 1], [60, 0], atol=1e-12)


def test_views_stay_within_the_settings_and_depend_on_the_seed_alone():
    settings = Augmentation(rotation_degrees=20, scale=1.2, shift=0.1)
    views = [View.sample(settings, np.random.default_rng(seed)) for seed in range(200)]
    assert views[7] == View.sample(settings, np.random.default_rng(7))
    assert max(abs(view.angle) for view in views) <= math.radians(20)
    assert 1 / 1.2 <= min(view.scale for view in views) < 0.9 < 1.1 < max(view.scale for view in views) <= 1.2
    assert 60 < sum(view.flip for view in views) < 140
    nothing = Augmentation(flip=0, rotation=0, scale=1, shift=0)
    assert View.sample(nothing, np.random.default_rng(0)) == View()


@pytest.mark.parametrize("tilt", [0.4, -2.0, 3.1])
def test_bodies_are_turned_upright_in_mirrored_views_too(tilt):
    settings = Augmentation(upright=1.0, rotation=0.0)
    body = np.array([math.sin(tilt), -math.cos(tilt)])  # from the hips to the shoulders, y down
    views = [View.sample(settings, np.random.default_rng(seed), tilt) for seed in range(20)]
    assert {view.flip for view in views} == {True, False}
    for view in views:
        np.testing.assert_allclose(view.world[:2, :2] @ body, [0, -1], atol=1e-9)
    assert View.sample(settings, np.random.default_rng(0)).angle == 0.0  # nothing is known of the body


def test_quarter_turns_and_misfits_come_as_often_as_they_should():
    settings = Augmentation(rotation=0.0, quarter_turns=0.5, misfit=0.3, scale=1.1, shift=0.05)
    rng = np.random.default_rng(0)
    views = [View.sample(settings, rng) for _ in range(2000)]
    turns = np.array([round(view.angle / (math.pi / 2)) for view in views])
    np.testing.assert_allclose([view.angle for view in views], turns * math.pi / 2)
    assert (turns > 0).mean() == pytest.approx(0.5, abs=0.04) and set(turns) == {0, 1, 2, 3}
    scales = np.array([view.scale for view in views])
    fits = (scales > 1 / 1.1) & (scales < 1.1)
    assert 1 - fits.mean() == pytest.approx(0.3 * (1 - 2 * math.log(1.1) / math.log(1.8 * 2.5)), abs=0.04)
    assert scales.min() < 0.45 and scales.max() > 1.6
    assert np.abs([view.shift for view in views]).max() > 0.2


def test_parts_of_a_body_are_the_joints_to_one_side_of_a_cut():
    points = np.array(
        [[15.0, 0], [15, 10], [5, 12], [25, 12], [np.nan, np.nan], [15, 50], [8, 75], [22, 75], [8, 100]]
    )
    whole = [0.0, -5, 30, 110]
    rng = np.random.default_rng(0)
    drawn = [PartOfBody.sample(points, 0.0, whole, rng) for _ in range(400)]
    parts = [part for part in drawn if part is not None]
    assert len(parts) > 350  # only below the knees there are too few
    shown = {tuple(np.round(part.box, 6)) for part in parts if not part.frame}
    bust, legs = (5 - 3, -3, 20 + 6, 12 + 6), (8 - 7.5, 50 - 7.5, 14 + 15, 50 + 15)
    assert shown >= {bust, legs}
    assert sum(box[1] < 0 for box in shown) / len(shown) > 0.4  # of few places of a cut, most begin at the head
    framed = [part for part in parts if part.frame]
    assert len(framed) / len(parts) == pytest.approx(0.6, abs=0.08)
    assert any(part.box == whole for part in framed)
    for part in framed:  # one side's joints are in the frame
        inside = ((points >= part.frame[:2]) & (points <= part.frame[2:])).all(axis=-1)
        assert inside[0] or inside[-1]
    lying = np.stack([-points[:, 1], points[:, 0]], axis=1)  # the head to the right
    of_lying = [PartOfBody.sample(lying, math.pi / 2, whole, rng) for _ in range(400)]
    turned = {tuple(np.round(part.box, 6)) for part in of_lying if part is not None}
    assert (-12.0 - 3, 5 - 3, 12 + 6, 20 + 6) in turned
    assert PartOfBody.sample(points, math.nan, whole, rng) is None
    assert PartOfBody.sample(points[:3], 0.0, whole, rng) is None


def test_beyond_a_frame_the_picture_is_black_and_nothing_is_visible(monkeypatch):
    row = make_row(0)
    settings = dataclasses.replace(GEOMETRY_ALONE, half_body=1.0, flip=0.0, rotation=0.0, scale=1.0, shift=0.0)
    draw = [AugmentedExamples(PROCESSOR, HUMAN36M, settings).example(row, np.random.default_rng(i)) for i in range(30)]
    monkeypatch.setattr(augmentation, "_framed", lambda image, row, frame: (image, row))
    bare = [AugmentedExamples(PROCESSOR, HUMAN36M, settings).example(row, np.random.default_rng(i)) for i in range(30)]
    changed = [
        not torch.equal(one["pixel_values"], other["pixel_values"]) for one, other in zip(draw, bare, strict=True)
    ]
    assert 10 < sum(changed) < 26  # three of five ways to show a part end the picture
    at_hidden = []
    for framed, whole in zip(draw, bare, strict=True):
        same = (framed["pixel_values"] == whole["pixel_values"]).all(0)  # (height, width)
        assert (framed["pixel_values"][:, ~same].abs().mean(0) <= whole["pixel_values"][:, ~same].abs().mean(0)).all()
        labels, others = framed["labels"], whole["labels"]
        assert torch.equal(labels["joints_2d"], others["joints_2d"])
        hidden = others["visible"] & ~labels["visible"]
        at_hidden += [framed["pixel_values"][:, y, x] for x, y in (labels["joints_2d"][hidden] * 64).long().tolist()]
    assert torch.stack(at_hidden).amax(1).median() == 0
    assert (
        sum(
            (one["labels"]["visible"] != other["labels"]["visible"]).any()
            for one, other in zip(draw, bare, strict=True)
        )
        > 3
    )


def test_what_has_no_2d_label_stays_visible_in_a_frame():
    row = make_row(0) | {"joints_2d": np.full((17, 2), np.nan), "visible": [True] * 17}
    picture, framed = augmentation._framed(Image.new("RGB", (20, 10), "white"), row, (5.0, -3.0, 50.0, 50.0))
    assert all(framed["visible"])
    assert np.asarray(picture)[:, :5].max() == 0 and np.asarray(picture)[:, 5:].min() == 255


def test_appearance_is_reproducible_keeps_size_and_changes_pixels():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    everything = Augmentation(blur=1, downscale=1, jpeg=1, noise=1, greyscale=1, colour=1)
    first = augment_appearance(image, everything, np.random.default_rng(5))
    second = augment_appearance(image, everything, np.random.default_rng(5))
    assert first.size == image.size and first.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    assert np.abs(np.asarray(first, float) - np.asarray(image, float)).mean() > 5
    nothing = Augmentation(blur=0, downscale=0, jpeg=0, noise=0, greyscale=0, colour=0)
    np.testing.assert_array_equal(np.asarray(augment_appearance(image, nothing, np.random.default_rng(5))), image)


def test_greyscale_is_grey_up_to_the_channel_gains():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    settings = Augmentation(colour=0.0, greyscale=1.0)
    pixels = np.asarray(change_colours(image, settings, np.random.default_rng(0)), int)
    assert np.abs(pixels - np.asarray(image.convert("L"), int)[..., None]).max() <= 1


def test_cutouts_cover_what_they_say():
    rng = np.random.default_rng(2)
    rectangles = sample_cutouts(Augmentation(cutout=1.0), (40, 60), rng)
    assert rectangles
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    cover(pixels, rectangles, rng)
    covered = np.zeros((40, 60), dtype=bool)
    for rows, columns in rectangles:
        covered[rows, columns] = True
    assert not pixels[~covered].any()
    assert pixels[covered].any()
    assert sample_cutouts(Augmentation(cutout=0.0), (40, 60), rng) == []


def test_refuses_impossible_settings():
    with pytest.raises(ValueError, match=r"`augmentation.flip` must be a probability in \[0, 1\], got 1.5"):
        Augmentation(flip=1.5)


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
