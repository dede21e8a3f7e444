"""Pictures and their labels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from jointdetr.camera_jointdetr import project
from jointdetr.synthesis import renderer as renderer_module
from jointdetr.synthesis.body import Body, load_body
from jointdetr.synthesis.poses import PosedPeople, sample_people
from jointdetr.synthesis.rasterizer import Fragments
from jointdetr.synthesis.renderer import PersonRenderer, Rendering, RenderSettings
from jointdetr.synthesis.scene import NOWHERE, Record, draw_scene
from jointdetr.synthesis.shading import GeometryBuffer

SEEDS = list(range(10))
SIZE = 96
LIMBS = {  # beginning and end of its bones' names: the two joints at its ends
    ("upperarm", ".L"): (11, 12),
    ("upperarm", ".R"): (14, 15),
    ("lowerarm", ".L"): (12, 13),
    ("lowerarm", ".R"): (15, 16),
    ("upperleg", ".L"): (4, 5),
    ("upperleg", ".R"): (1, 2),
    ("lowerleg", ".L"): (5, 6),
    ("lowerleg", ".R"): (2, 3),
}
NO_BODY = -1


class WatchedRenderer(PersonRenderer):
    """Keeps what is behind the pixels: `bones` `(batch, height, width)` of the body, and `depths` in mm."""

    def __init__(self, body: Body, settings: RenderSettings) -> None:
        super().__init__(body, settings)
        self.bone_of_vertex = body.dominant_bone
        self.bones, self.depths = torch.empty(0, dtype=torch.long), torch.empty(0)

    def _add_body(self, buffer: GeometryBuffer, fragments: Fragments, *rest: Any) -> None:
        super()._add_body(buffer, fragments, *rest)
        bones = torch.full_like(buffer.material, NO_BODY)
        vertices = self.faces[fragments.face, fragments.weights.argmax(0)]
        bones.view(-1)[fragments.pixel] = self.bone_of_vertex[vertices]
        shape = (-1, self.rays_per_edge, self.rays_per_edge)
        self.bones = torch.cat([self.bones, bones.view(shape)])
        self.depths = torch.cat([self.depths, 1000 * buffer.depth.view(shape)])


def render_people(body: Body, people: PosedPeople, seeds: Sequence[int], settings: RenderSettings) -> Rendering:
    return PersonRenderer(body, settings).render(people, seeds)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def people(body: Body) -> PosedPeople:
    return sample_people(body, SEEDS, "everyday")


@pytest.fixture(scope="module")
def rendered(body: Body, people: PosedPeople) -> tuple[Rendering, WatchedRenderer]:
    return watch(body, people)


@pytest.fixture(scope="module")
def rendering(rendered: tuple[Rendering, WatchedRenderer]) -> Rendering:
    return rendered[0]


@pytest.fixture(scope="module")
def behind(rendered: tuple[Rendering, WatchedRenderer]) -> WatchedRenderer:
    return rendered[1]


def watch(body: Body, people: PosedPeople, **settings: Any) -> tuple[Rendering, WatchedRenderer]:
    renderer = WatchedRenderer(body, RenderSettings(**{"size": SIZE} | settings))
    return renderer.render(people, SEEDS[: len(people.vertices)]), renderer


def without_boxes(record: Record) -> Record:
    return record | {"box_centre": np.full_like(record["box_centre"], NOWHERE)}


def test_shapes_and_types(rendering: Rendering) -> None:
    count = len(SEEDS)
    assert rendering.images.shape == (count, SIZE, SIZE, 3)
    assert rendering.images.dtype == torch.uint8
    assert rendering.joints_camera.shape == (count, 17, 3)
    assert rendering.visible.shape == (count, 17)
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


def test_the_body_shows_its_limbs_where_the_joints_are(
    body: Body, rendering: Rendering, behind: WatchedRenderer
) -> None:
    right, found = 0, set()
    total = 0
    for limb, ends in LIMBS.items():
        middle = rendering.joints_camera[:, ends].mean(1)  # (batch, 3)
        pixel = project(middle[:, None], rendering.intrinsics)[:, 0].long()
        for image, (column, row) in enumerate(pixel.tolist()):
            if not (0 <= column < SIZE and 0 <= row < SIZE):
                continue
            bone = int(behind.bones[image, row, column])
            if bone != NO_BODY and abs(behind.depths[image, row, column] - middle[image, 2]) < 70:  # nothing before it
                total += 1
                name, (start, side) = str(body.bone_names[bone]), limb
                right += name.startswith(start) and name.endswith(side)
                found.add(limb)
    assert len(found) >= len(LIMBS) - 1
    assert right / total > 0.9


def test_the_surface_is_just_above_visible_joints(rendering: Rendering, behind: WatchedRenderer) -> None:
    pixel = rendering.joints_2d.long()
    image, joint = rendering.visible.nonzero(as_tuple=True)
    column, row = pixel[image, joint].T
    below = rendering.joints_camera[image, joint, 2] - behind.depths[image, row, column]
    below = below[behind.bones[image, row, column] != NO_BODY]
    assert len(below) > 30
    assert (below.abs() < 250).float().mean() > 0.95  # a pixel may show what lies beside its joint
    assert 0 < below.median() < 120


def test_box_holds_the_body(rendering: Rendering, behind: WatchedRenderer) -> None:
    x, y, width, height = rendering.box.T[..., None]
    assert (rendering.box[:, :2] >= 0).all()
    assert ((x + width <= SIZE) & (y + height <= SIZE)).all()
    image, row, column = (behind.bones != NO_BODY).nonzero(as_tuple=True)
    centre_x, centre_y = column + 0.5, row + 0.5
    x, y, width, height = rendering.box[image].T
    assert ((centre_x >= x) & (centre_x <= x + width) & (centre_y >= y) & (centre_y <= y + height)).all()


def test_a_box_in_front_hides_what_is_behind_it(
    body: Body, people: PosedPeople, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = 10

    def with_one_box(*arguments: object) -> Record:
        record = without_boxes(draw_scene(*arguments))
        head = arguments[1][hidden]
        record["box_centre"][0] = record["eye"] + 0.5 * (head - record["eye"])
        record["box_half"][0] = 0.12
        return record

    monkeypatch.setattr(renderer_module, "draw_scene", lambda *arguments: without_boxes(draw_scene(*arguments)))
    free, behind_free = watch(body, people)
    monkeypatch.setattr(renderer_module, "draw_scene", with_one_box)
    blocked, behind_blocked = watch(body, people)
    torch.testing.assert_close(free.joints_2d, blocked.joints_2d)
    inside = ((free.joints_2d[:, hidden] > 0) & (free.joints_2d[:, hidden] < SIZE)).all(-1)
    assert free.visible[inside, hidden].float().mean() > 0.5
    assert not blocked.visible[:, hidden].any()
    assert (blocked.visible <= free.visible).all()
    column, row = free.joints_2d[inside, hidden].long().T
    index = inside.nonzero()[:, 0]
    bones = {str(body.bone_names[bone]) for bone in behind_free.bones[index, row, column].tolist()}
    assert all(name.startswith(("head", "neck")) for name in bones)
    assert (behind_blocked.bones[index, row, column] == NO_BODY).all()
    assert (behind_blocked.depths[index, row, column] < free.joints_camera[inside, hidden, 2]).all()


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
    plain, behind_plain = watch(body, two, size=64)
    smooth, behind_smooth = watch(body, two, size=64, supersampling=2)
    assert smooth.images.shape == plain.images.shape
    torch.testing.assert_close(smooth.joints_2d, plain.joints_2d, rtol=0, atol=1e-3)
    torch.testing.assert_close(smooth.intrinsics, plain.intrinsics)
    torch.testing.assert_close(smooth.box, plain.box, rtol=0, atol=1e-3)
    of_pixel, of_its_ray = behind_plain.bones != NO_BODY, behind_smooth.bones[:, 1::2, 1::2] != NO_BODY
    assert (of_pixel == of_its_ray).float().mean() > 0.97
    assert (smooth.images.float() - plain.images.float()).abs().mean() < 15


def test_rooms_of_nobody_show_the_same_scene_without_the_person(
    body: Body, people: PosedPeople, rendering: Rendering, behind: WatchedRenderer
) -> None:
    rooms, behind_rooms = watch(body, people, preset="nobody")
    assert (behind_rooms.bones == NO_BODY).all()
    torch.testing.assert_close(rooms.box, rendering.box)
    person = behind.bones != NO_BODY
    assert (behind_rooms.depths[~person] == behind.depths[~person]).all()
    assert (rendering.images.float() - rooms.images.float())[person].abs().mean() > 20.0


def test_settings_and_seeds_are_checked(body: Body, people: PosedPeople) -> None:
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        RenderSettings(size=0)
    with pytest.raises(ValueError, match="`supersampling` must be at least 1, got 0"):
        RenderSettings(supersampling=0)
    with pytest.raises(ValueError, match="`preset` must be"):
        RenderSettings(preset="sunday")
    with pytest.raises(ValueError, match="10 people, got 2"):
        PersonRenderer(body, RenderSettings(size=32)).render(people, [1, 2])
