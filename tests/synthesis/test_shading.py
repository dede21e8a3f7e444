"""Shadow, light and the sensor."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from jointdetr.synthesis.materials import SKY, UPPER
from jointdetr.synthesis.scene import NOWHERE, Scene, draw_scene, stack_records
from jointdetr.synthesis.shading import (
    GeometryBuffer,
    ShadowMap,
    develop,
    light_axes,
    light_surface,
    shaded_by_boxes,
    to_light,
)

LIGHT = np.array([0.6, 0.0, 0.8])


@pytest.fixture
def scene() -> Scene:
    """Light from +x, 53 degrees high; centre at (0, 0, 1), radius 1; no box."""
    joints = np.random.default_rng(0).uniform([-0.4, -0.2, 0.1], [0.4, 0.2, 1.7], (17, 3))
    record = draw_scene(np.random.default_rng(0), joints, np.array([[-1, -1, 0], [1, 1, 2.0]]), "", "everyday")
    changes = {
        "light": LIGHT,
        "centre": np.array([0.0, 0.0, 1.0]),
        "radius": np.float64(1.0),
        "softness": np.float64(0.5),
        "box_centre": np.full((10, 3), NOWHERE),
        "box_half": np.full((10, 3), 0.2),
        "box_axes": np.tile(np.eye(3), (10, 1, 1)),
    }
    return stack_records(Scene, [record | changes], torch.device("cpu"))


def points(*places: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(places).T[:, None]  # (3, 1, n)


def test_light_axes_are_a_rotation_towards_the_light(scene: Scene) -> None:
    axes = light_axes(scene)[0]
    torch.testing.assert_close(axes @ axes.T, torch.eye(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(axes @ torch.tensor(LIGHT).float(), torch.tensor([0.0, 0.0, 1.0]), rtol=0, atol=1e-6)


def test_a_sheet_throws_its_shadow_away_from_the_light(scene: Scene) -> None:
    sheet = points((-0.3, -0.3, 1), (0.3, -0.3, 1), (0.3, 0.3, 1), (-0.3, 0.3, 1))
    shadow = ShadowMap.of_mesh(sheet, torch.tensor([[0, 1, 2], [0, 2, 3]]), scene, 100)
    # one metre lower the shadow has moved by 0.6 / 0.8 m in -x
    where = points((-0.75, 0, 0), (-0.75, 0.2, 0), (-0.75, 0.5, 0), (0, 0, 0), (0.75, 0, 0), (0, 0, 1.5))
    lit = shadow.lit(to_light(where, scene))
    assert lit.tolist() == [[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]
    edge = shadow.lit(to_light(points((-0.75, 0.3, 0)), replace(scene, softness=torch.tensor([3.0]))))
    assert 0 < edge.item() < 1


def test_a_box_throws_its_shadow_away_from_the_light(scene: Scene) -> None:
    boxes = scene.box_centre.clone()
    boxes[0, 7] = torch.tensor([0.0, 0.0, 1.0])
    where = points((-0.75, 0, 0), (-0.75, 0.3, 0), (0.75, 0, 0), (0, 0, 2), (-0.75, 0, 0))
    facing = torch.tensor([[True, True, True, True, False]])
    local = to_light(where, scene)
    assert not shaded_by_boxes(local, facing, scene).any()
    shaded = shaded_by_boxes(local, facing, replace(scene, box_centre=boxes))
    assert shaded.tolist() == [[True, False, False, False, False]]


def test_surfaces_are_brightest_towards_the_light(scene: Scene) -> None:
    """Four patches at one place in the air: towards the light, across, away from it, and sky."""
    normals = torch.tensor([LIGHT.tolist(), [0.8, 0, -0.6], (-LIGHT).tolist(), LIGHT.tolist()]).T[:, None]
    material = torch.tensor([[UPPER, UPPER, UPPER, SKY]])
    ray = torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(3, 1, 4)
    buffer = GeometryBuffer(ray, torch.full((1, 4), 3.0), material, normals, torch.zeros(3, 1, 4))
    ones = torch.ones(1, 3)
    plain = replace(
        scene, key=2 * ones, rim_colour=0 * ones, ambient_up=0.5 * ones, ambient_down=0.5 * ones, eye=torch.ones(1, 3)
    )
    no_shadow = ShadowMap(torch.full((1, 16, 16), math.inf), torch.tensor([8.0]), torch.tensor([1.0]))
    colour = torch.full((3, 1, 4), 0.4)
    light = light_surface(buffer, (colour, torch.zeros(1, 4)), plain, no_shadow)
    grazing = 0.5 * 0.1  # the rays run along all these surfaces
    expected = torch.tensor([0.4 * (0.5 + 2) + grazing, 0.4 * 0.5 + grazing, 0.4 * 0.5 + grazing, 0.4])
    torch.testing.assert_close(light, expected.expand(3, 1, 4))


def test_develop_gives_pictures_of_any_brightness_the_same_exposure(scene: Scene) -> None:
    light = torch.rand(3, 1, 16, 16) * 5
    picture = develop(light, scene)
    assert picture.min() >= 0
    assert picture.max() <= 1
    torch.testing.assert_close(develop(light * 100, scene), picture)
    grey = develop(light, replace(scene, saturation=torch.zeros(1)))
    torch.testing.assert_close(grey[0], grey[2])
    assert (picture[0] - picture[2]).abs().max() > 0.01
