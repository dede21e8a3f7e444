"""Cameras, rooms and boxes."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from jointdetr.synthesis.materials import BOX, GROUND, SKY
from jointdetr.synthesis.scene import (
    BODY_MARGIN,
    NOWHERE,
    Scene,
    draw_scene,
    place_camera,
    rotate,
    stack_records,
    view_rotation,
)
from jointdetr.synthesis.shading import add_boxes, empty_room, hit_box

SIZE = 32


def standing_joints() -> np.ndarray:
    """Seventeen joints spread over a standing person, (17, 3) metres."""
    rng = np.random.default_rng(0)
    joints = rng.uniform([-0.4, -0.2, 0.1], [0.4, 0.2, 1.7], (17, 3))
    joints[[0, 1, 4]] = [[0.0, 0.0, 0.9], [-0.1, 0.0, 0.9], [0.1, 0.0, 0.9]]  # pelvis and hips
    return joints


def scene_record(seed: int, preset: str = "everyday", activity: str = "standing") -> dict[str, np.ndarray]:
    joints = standing_joints()
    bounds = np.stack([joints.min(0) - 0.1, joints.max(0) + 0.1])
    return draw_scene(np.random.default_rng(seed), joints, bounds, activity, preset)


def test_a_scene_depends_on_its_generator_alone() -> None:
    first, again, other = scene_record(4), scene_record(4), scene_record(5)
    assert first.keys() == {field.name for field in fields(Scene)}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["eye"], other["eye"])


@pytest.mark.parametrize("azimuth, elevation, roll", [(0.3, 0.0, 0.0), (2.0, 0.4, 0.1), (-1.0, -0.1, -0.2)])
def test_view_rotation_is_a_camera_that_looks_at_the_origin(azimuth: float, elevation: float, roll: float) -> None:
    rotation = view_rotation(azimuth, elevation, roll)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    stand = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    np.testing.assert_allclose(rotation @ -stand, [0, 0, 1], atol=1e-12)
    assert rotation[1] @ [0, 0, -1] > 0.8  # y points down


def test_place_camera_gives_the_wanted_framing() -> None:
    joints, rotation, focal = standing_joints(), view_rotation(0.7, 0.1, 0.0), 1.2
    eye = place_camera(joints, rotation, focal, (0.7, np.array([0.1, -0.05])))
    camera = (joints - eye) @ rotation.T
    points, margin = focal * camera[:, :2] / camera[:, 2:], focal * BODY_MARGIN / camera[:, 2:]
    low, high = (points - margin).min(0), (points + margin).max(0)
    assert (high - low).max() == pytest.approx(0.7, abs=0.01)
    np.testing.assert_allclose((low + high) / 2, [0.1, -0.05], atol=0.01)


def test_everyday_scenes_show_the_whole_person() -> None:
    joints, inside = standing_joints(), []
    for seed in range(60):
        scene = scene_record(seed)
        camera = (joints - scene["eye"]) @ scene["rotation"].T
        assert camera[:, 2].min() > 0.3
        assert (scene["wall_normal"] @ scene["eye"] < scene["wall_offset"]).all()
        assert (scene["wall_normal"] @ joints.T < scene["wall_offset"][:, None]).all()
        inside.append((abs(scene["focal"] * camera[:, :2] / camera[:, 2:]) < 0.5).all(-1).mean())
    assert np.mean(inside) > 0.94
    assert np.mean(np.array(inside) == 1) > 0.85


def test_who_sits_gets_a_seat_below_the_pelvis() -> None:
    seats = []
    for seed in range(30):
        scene = scene_record(seed, activity="sitting, phoning")
        top = scene["box_centre"][1, 2] + scene["box_half"][1, 2]
        if top < NOWHERE / 2:
            seats.append(top)
    pelvis = standing_joints()[0, 2]
    assert len(seats) > 12
    assert all(pelvis - 0.2 < top < pelvis for top in seats)


def test_hit_box_by_hand() -> None:
    start = torch.tensor([[-3.0, 0, 0], [-3, 0.6, 0], [0, 0, 0], [3, 0, 0], [0, 0, 5]]).T
    direction = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, -2]]).T
    half = torch.tensor([1.0, 0.5, 2.0])[:, None].expand(3, 5)
    distance, face, ahead = hit_box(start, direction, half)
    assert distance.tolist() == [2.0, torch.inf, torch.inf, torch.inf, 1.5]
    assert ahead.tolist() == [True, False, True, False, True]
    assert face[[0, 4]].tolist() == [0, 2]


def level_scene(**changes: np.ndarray) -> Scene:
    """A camera 1 m above the ground that looks along +y, no wall, one box at most."""
    record = scene_record(0) | {
        "rotation": view_rotation(-np.pi / 2, 0.0, 0.0),
        "eye": np.array([0.0, 0.0, 1.0]),
        "focal": np.float64(1.0),
        "wall_offset": np.full(3, NOWHERE),
        "box_centre": np.full((10, 3), NOWHERE),
        "box_axes": np.tile(np.eye(3), (10, 1, 1)),
    }
    return stack_records(Scene, [record | changes], torch.device("cpu"))


def test_an_empty_room_is_ground_below_sky() -> None:
    buffer = empty_room(level_scene(), SIZE)
    material, depth = buffer.material.view(SIZE, SIZE), buffer.depth.view(SIZE, SIZE)
    assert (material[: SIZE // 2] == SKY).all()
    assert (material[SIZE // 2 + 1 :] == GROUND).all()
    # the ray of the lowest row falls (31.5 / 32 - 0.5) for every metre ahead: 1 m of height lasts 1 / 0.484375 m
    torch.testing.assert_close(depth[-1], torch.full((SIZE,), 1 / 0.484375))
    assert (buffer.normal.view(3, SIZE, SIZE)[2, -1] == 1).all()


def test_a_wall_and_a_box_stand_where_they_are_put() -> None:
    centres, halves = np.full((10, 3), NOWHERE), np.full((10, 3), 0.1)
    centres[4], halves[4] = [0.0, 3.0, 1.0], [0.2, 0.5, 0.2]
    walls, offsets = np.tile(np.array([0.0, 1.0, 0.0]), (3, 1)), np.array([5.0, NOWHERE, NOWHERE])
    scene = level_scene(box_centre=centres, box_half=halves, wall_normal=walls, wall_offset=offsets)
    buffer = empty_room(scene, SIZE)
    add_boxes(buffer, scene, SIZE)
    depth, normal = buffer.depth.view(SIZE, SIZE), buffer.normal.view(3, SIZE, SIZE)
    material = buffer.material.view(SIZE, SIZE)
    middle = SIZE // 2
    assert depth[middle, middle].item() == pytest.approx(2.5)  # the front face
    assert material[middle, middle] >= BOX
    assert depth[middle, 0].item() == pytest.approx(5.0)  # the wall beside it
    torch.testing.assert_close(normal[:, middle, middle], torch.tensor([0.0, -1.0, 0.0]))
    # the box is 0.4 m wide, 2.5 m away and 32 px to the metre at 1 m: 5.12 px
    assert int((material[middle] >= BOX).sum()) in (5, 6)


def test_rotate_is_a_matrix_product() -> None:
    matrices, points = torch.randn(2, 3, 3), torch.randn(3, 2, 5)
    torch.testing.assert_close(rotate(matrices, points), torch.einsum("bij,jbn->ibn", matrices, points))
