"""Augmented views: picture, 2D, 3D and intrinsics move together."""

import math

import numpy as np
import pytest
from PIL import Image

from jointdetr.training.augmentation import (
    Augmentation,
    View,
    augment_appearance,
    change_colours,
    cover,
    half_body_box,
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


def project(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    homogeneous = points @ intrinsics.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("focal_y", [900.0, 700.0])
def test_moved_world_projects_onto_moved_points(name, focal_y):
    intrinsics = INTRINSICS.copy()
    intrinsics[1, 1] = focal_y
    world = np.random.default_rng(0).normal(0, 400, (17, 3)) + [200, -100, 4000]
    affine = VIEWS[name].affine(PLAIN_CROP, (96, 128))
    expected = project(world, intrinsics) @ affine[:, :2].T + affine[:, 2]
    moved = world @ VIEWS[name].world.T
    np.testing.assert_allclose(project(moved, VIEWS[name].intrinsics(intrinsics, affine)), expected, atol=1e-9)


@pytest.mark.parametrize("name", VIEWS)
def test_equal_focal_lengths_stay_a_plain_camera(name):
    affine = VIEWS[name].affine(PLAIN_CROP, (96, 128))
    intrinsics = VIEWS[name].intrinsics(INTRINSICS, affine)
    focal = 900 * 0.8 * VIEWS[name].scale
    np.testing.assert_allclose(intrinsics[:2, :2], np.diag([focal, focal]), atol=1e-9)


def test_a_turn_about_the_principal_point_leaves_the_camera_alone():
    size, angle = (100, 100), 0.7
    intrinsics = np.array([[300.0, 0, 50], [0, 300, 50], [0, 0, 1]])
    view = View(angle=angle)
    affine = view.affine(np.eye(3)[:2], size)
    np.testing.assert_allclose(view.intrinsics(intrinsics, affine), intrinsics, atol=1e-9)
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


def test_half_bodies_are_the_box_around_one_half():
    points = np.array(
        [[10.0, 10], [20, 10], [15, 0], [12, 20], [np.nan, np.nan], [0, 100], [30, 100], [0, 60], [30, 60]]
    )
    legs = np.arange(9) > 4
    boxes = [half_body_box(points, legs, np.random.default_rng(seed)) for seed in range(200)]
    upper, lower = [10 - 3, 0 - 3, 10 + 6, 20 + 6], [0 - 6, 60 - 6, 30 + 12, 40 + 12]
    assert {tuple(box) for box in boxes} == {tuple(upper), tuple(lower)}
    assert boxes.count(upper) / 200 == pytest.approx(0.8, abs=0.08)
    assert half_body_box(points[:4] * np.nan, legs[:4], np.random.default_rng(0)) is None


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
    with pytest.raises(ValueError, match="`augmentation.scale` must be at least 1, got 0.5"):
        Augmentation(scale=0.5)
    with pytest.raises(ValueError, match="`augmentation.shift` must not be negative"):
        Augmentation(shift=-0.1)
