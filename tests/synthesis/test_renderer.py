"""Pictures and their labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from jointdetr.data.schema import PART_NAMES
from jointdetr.geometry_jointdetr import project
from jointdetr.synthesis import renderer as renderer_module
from jointdetr.synthesis.body import Body, load_body
from jointdetr.synthesis.poses import PosedPeople, sample_people
from jointdetr.synthesis.renderer import PersonRenderer, Rendering, RenderSettings
from jointdetr.synthesis.scene import NOWHERE, Record, draw_scene

SEEDS = list(range(10))
SIZE = 96
LIMBS = {  # part: the two joints at its ends
    "left_upper_arm": (11, 12),
    "right_upper_arm": (14, 15),
    "left_forearm": (12, 13),
    "right_forearm": (15, 16),
    "left_thigh": (4, 5),
    "right_thigh": (1, 2),
    "left_shin": (5, 6),
    "right_shin": (2, 3),
}


def render_people(body: Body, people: PosedPeople, seeds: Sequence[int], settings: RenderSettings) -> Rendering:
    return PersonRenderer(body, settings).render(people, seeds)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def people(body: Body) -> PosedPeople:
    return sample_people(body, SEEDS, "everyday")


@pytest.fixture(scope="module")
def rendering(body: Body, people: PosedPeople) -> Rendering:
    return render_people(body, people, SEEDS, RenderSettings(size=SIZE))


def without_boxes(record: Record) -> Record:
    return record | {"box_centre": np.full_like(record["box_centre"], NOWHERE)}


def test_shapes_and_types(rendering: Rendering) -> None:
    count = len(SEEDS)
    assert rendering.images.shape == (count, SIZE, SIZE, 3)
    assert rendering.images.dtype == torch.uint8
    assert rendering.joints_camera.shape == (count, 17, 3)
    assert rendering.visible.shape == (count, 17)
    assert rendering.part_map.shape == rendering.depth_map.shape == (count, SIZE // 4, SIZE // 4)
    assert rendering.part_map.dtype == torch.uint8
    assert int(rendering.part_map.max()) < len(PART_NAMES)
    assert rendering.images.float().std() > 20


def test_labels_reproject(rendering: Rendering) -> None:
    projected = project(rendering.joints_camera, rendering.intrinsics)
    assert (projected - rendering.joints_2d).abs().max() < 0.01


def test_camera_space_is_a_rigid_motion_of_the_world_in_millimetres(rendering: Rendering, people: PosedPeople) -> None:
    distances = torch.cdist(rendering.joints_camera, rendering.joints_camera)
    torch.testing.assert_close(distances, torch.cdist(people.joints, people.joints) * 1000, rtol=1e-4, atol=0.5)
    assert (rendering.joints_camera[..., 2] > 0).all()
    # y points down: everybody's head is above the ankles in this preset's level views
    assert (rendering.joints_camera[:, 10, 1] < rendering.joints_camera[:, 3, 1]).all()


def test_left_and_right_are_not_mirrored(rendering: Rendering, people: PosedPeople) -> None:
    """The turn from world to camera axes has determinant +1."""
    world = (people.joints - people.joints[:, :1]).double()
    camera = (rendering.joints_camera - rendering.joints_camera[:, :1]).double()
    turn = torch.linalg.lstsq(world, camera).solution
    torch.testing.assert_close(
        torch.linalg.det(turn), torch.full((len(SEEDS),), 1e9, dtype=torch.double), rtol=0.01, atol=0
    )


def test_a_picture_depends_on_its_person_and_seed_alone(body: Body, people: PosedPeople, rendering: Rendering) -> None:
    chosen = [4, 1]
    some = replace(
        people,
        vertices=people.vertices[chosen],
        joints=people.joints[chosen],
        activity=[people.activity[index] for index in chosen],
    )
    again = render_people(body, some, [SEEDS[index] for index in chosen], RenderSettings(size=SIZE))
    for name, expected in vars(rendering).items():
        torch.testing.assert_close(getattr(again, name), expected[chosen], rtol=0, atol=0, equal_nan=True)
    other = render_people(body, some, [100, 101], RenderSettings(size=SIZE))
    assert not torch.equal(other.images, again.images)


def test_parts_lie_where_their_limbs_are(rendering: Rendering) -> None:
    right, found = 0, set()
    total = 0
    for part, ends in LIMBS.items():
        middle = rendering.joints_camera[:, ends].mean(1)  # (batch, 3)
        cell = (project(middle[:, None], rendering.intrinsics)[:, 0] / 4).long()
        for image, (column, row) in enumerate(cell.tolist()):
            if not (0 <= column < SIZE // 4 and 0 <= row < SIZE // 4):
                continue
            limb_depth = middle[image, 2] - rendering.joints_camera[image, 0, 2]
            if abs(rendering.depth_map[image, row, column] - limb_depth) < 70:  # nothing else before it
                total += 1
                right += PART_NAMES[int(rendering.part_map[image, row, column])] == part
                found.add(part)
    assert len(found) >= len(LIMBS) - 1
    assert right / total > 0.9


def test_depth_map_is_just_above_visible_joints(rendering: Rendering) -> None:
    root_depth = rendering.joints_camera[:, :1, 2]
    cell = (rendering.joints_2d / 4).long()
    image, joint = rendering.visible.nonzero(as_tuple=True)
    surface = rendering.depth_map[image, cell[image, joint, 1], cell[image, joint, 0]]
    below = (rendering.joints_camera[..., 2] - root_depth)[image, joint] - surface
    below = below[~below.isnan()]
    assert len(below) > 30
    assert (below.abs() < 250).float().mean() > 0.95  # a block may show what lies beside its joint
    assert 0 < below.median() < 120


def test_box_holds_the_body(rendering: Rendering) -> None:
    x, y, width, height = rendering.box.T[..., None]
    assert (rendering.box[:, :2] >= 0).all()
    assert ((x + width <= SIZE) & (y + height <= SIZE)).all()
    image, row, column = (rendering.part_map > 0).nonzero(as_tuple=True)
    centre_x, centre_y = column * 4 + 2.5, row * 4 + 2.5
    x, y, width, height = rendering.box[image].T
    assert ((centre_x >= x) & (centre_x <= x + width) & (centre_y >= y) & (centre_y <= y + height)).all()


def test_a_box_in_front_hides_what_is_behind_it(
    body: Body, people: PosedPeople, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = 10

    def with_one_box(*arguments: object) -> Record:
        record = without_boxes(draw_scene(*arguments))
        head = arguments[1].joints[hidden]
        record["box_centre"][0] = record["eye"] + 0.5 * (head - record["eye"])
        record["box_half"][0] = 0.12
        return record

    monkeypatch.setattr(renderer_module, "draw_scene", lambda *arguments: without_boxes(draw_scene(*arguments)))
    free = render_people(body, people, SEEDS, RenderSettings(size=SIZE))
    monkeypatch.setattr(renderer_module, "draw_scene", with_one_box)
    blocked = render_people(body, people, SEEDS, RenderSettings(size=SIZE))
    torch.testing.assert_close(free.joints_2d, blocked.joints_2d)
    inside = ((free.joints_2d[:, hidden] > 0) & (free.joints_2d[:, hidden] < SIZE)).all(-1)
    assert free.visible[inside, hidden].float().mean() > 0.5
    assert not blocked.visible[:, hidden].any()
    assert (blocked.visible <= free.visible).all()
    cell = (free.joints_2d[inside, hidden] / 4).long()
    index = inside.nonzero()[:, 0]
    assert (free.part_map[index, cell[:, 1], cell[:, 0]] == PART_NAMES.index("head")).all()
    assert (blocked.part_map[index, cell[:, 1], cell[:, 0]] == 0).all()
    assert blocked.depth_map[index, cell[:, 1], cell[:, 0]].isnan().all()


def test_joints_outside_the_picture_are_not_visible(
    body: Body, people: PosedPeople, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zoomed(*arguments: object) -> Record:
        record = without_boxes(draw_scene(*arguments))
        return record | {"focal": record["focal"] * 3}

    monkeypatch.setattr(renderer_module, "draw_scene", zoomed)
    close = render_people(body, people, SEEDS, RenderSettings(size=SIZE))
    outside = ((close.joints_2d < 0) | (close.joints_2d >= SIZE)).any(-1)
    assert outside.float().mean() > 0.3
    assert not close.visible[outside].any()
    assert close.visible.any()


def test_supersampling_smooths_the_picture_and_keeps_the_labels(body: Body, people: PosedPeople) -> None:
    two = replace(people, vertices=people.vertices[:2], joints=people.joints[:2], activity=people.activity[:2])
    plain = render_people(body, two, SEEDS[:2], RenderSettings(size=64))
    smooth = render_people(body, two, SEEDS[:2], RenderSettings(size=64, supersampling=2))
    assert smooth.images.shape == plain.images.shape
    torch.testing.assert_close(smooth.joints_2d, plain.joints_2d, rtol=0, atol=1e-3)
    torch.testing.assert_close(smooth.intrinsics, plain.intrinsics)
    torch.testing.assert_close(smooth.box, plain.box, rtol=0, atol=1e-3)
    assert (smooth.part_map == plain.part_map).float().mean() > 0.97
    assert (smooth.images.float() - plain.images.float()).abs().mean() < 15


def test_rooms_of_nobody_show_the_same_scene_without_the_person(
    body: Body, people: PosedPeople, rendering: Rendering
) -> None:
    rooms = render_people(body, people, SEEDS, RenderSettings(size=SIZE, preset="nobody"))
    assert (rooms.part_map == 0).all() and rooms.depth_map.isnan().all()
    torch.testing.assert_close(rooms.box, rendering.box)
    person = rendering.part_map > 0
    cells = rendering.images[:, 2::4, 2::4].float() - rooms.images[:, 2::4, 2::4].float()
    assert cells[person].abs().mean() > 20.0


def test_settings_and_seeds_are_checked(body: Body, people: PosedPeople) -> None:
    with pytest.raises(ValueError, match="`size` must be a positive multiple of 4, got 30"):
        RenderSettings(size=30)
    with pytest.raises(ValueError, match="`supersampling` must be at least 1, got 0"):
        RenderSettings(supersampling=0)
    with pytest.raises(ValueError, match="`preset` must be"):
        RenderSettings(preset="sunday")
    with pytest.raises(ValueError, match="10 people, got 2"):
        PersonRenderer(body, RenderSettings(size=32)).render(people, [1, 2])
