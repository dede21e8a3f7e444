"""Motions on the floor: upright, without sliding, with bones as long, and what is said about it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from standing import TO_CAMERA, as_motion, standing_person

from jointdetr.formats.bvh import read_bvh
from jointdetr.formats.rig import with_constant_bones
from jointdetr.motion import PoseMotion, motion_rows
from jointdetr.motion.floor import (
    ANKLE_HEIGHT,
    both_sides,
    estimate_up,
    find_contacts,
    level_rotation,
    runs,
    stand_all_on_floor,
    stand_on_floor,
)
from jointdetr.skeleton_jointdetr import HUMAN36M, Skeleton
from jointdetr.visualization import write_poses

ANKLES = [HUMAN36M.joints.index(f"{side}_ankle") for side in ("left", "right")]
CAMERA_HEIGHT, STEP_MM, STEP_FRAMES = 1200.0, 500.0, 15


def walker(steps: int = 6) -> PoseMotion:
    """Somebody who walks on stiff legs before a level camera at 30 frames a second: each foot stands for a step."""
    frames = np.arange(steps * STEP_FRAMES)
    bodies, roots = [], []
    for frame in frames:
        step, share = divmod(frame / STEP_FRAMES, 1)
        eased = share - np.sin(2 * np.pi * share) / (2 * np.pi)
        standing, moving = ("left", "right") if step % 2 else ("right", "left")
        body = standing_person()
        places = {standing: step * STEP_MM / 2, moving: (step - 1 + 2 * eased) * STEP_MM / 2}
        middle = (frame / STEP_FRAMES - 0.5) * STEP_MM / 2
        for side, place in places.items():
            lift = 80 * np.sin(np.pi * share) ** 2 if side == moving else 0
            for joint, part in (("ankle", 1.0), ("knee", 0.5)):
                body[f"{side}_{joint}"] = body[f"{side}_{joint}"] + [part * (place - middle), part * lift, 0]
        bodies.append(body)
        roots.append(TO_CAMERA @ [middle, 950 - CAMERA_HEIGHT, 0] + [0, 0, 4000])
    motion = as_motion(*bodies, root_camera=np.array(roots))
    return replace(motion, times_s=frames / 30)


def tilted(motion: PoseMotion, degrees: tuple[float, float, float]) -> tuple[PoseMotion, np.ndarray]:
    """The same motion before a camera that is turned, and where up is for that camera."""
    rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    moved = replace(motion, joints=motion.joints @ rotation.T, root_camera=motion.root_camera @ rotation.T)
    return moved, rotation @ [0.0, -1.0, 0.0]


def noisy(motion: PoseMotion, joint_mm: float, depth_mm: float) -> PoseMotion:
    """Slow errors of every joint, and of the root's depth."""
    generator = np.random.default_rng(4)
    times = motion.times_s[:, None, None]
    frequencies, phases = (generator.uniform(low, high, (17, 3)) for low, high in ((0.3, 2), (0, 6)))
    joints = motion.joints + joint_mm * np.sin(2 * np.pi * frequencies * times + phases)
    depth = depth_mm * np.sin(2 * np.pi * 0.8 * motion.times_s + 1)[:, None]
    rays = motion.root_camera / np.linalg.norm(motion.root_camera, axis=-1, keepdims=True)
    return replace(motion, joints=joints - joints[:, :1], root_camera=motion.root_camera + depth * rays)


def sliding_mm(motion: PoseMotion, contacts: np.ndarray) -> float:
    """The farthest that an ankle moves in the plane of the floor within one contact."""
    ankles = motion.joints_camera[:, ANKLES][..., [0, 2]]
    return max(np.ptp(ankles[run, foot], axis=0).max() for foot in range(2) for run in runs(contacts[:, foot]))


class TestStandOnFloor:
    def test_what_stands_already_stays(self):
        motion = walker()
        placed, fit = stand_on_floor(motion, (0, -1, 0))
        assert fit.moved_mm.mean() < 1
        assert fit.moved_mm.max() < 25  # where feet begin and end to stand, which they do smoothly
        np.testing.assert_allclose(placed.root_camera[:, [0, 2]], motion.root_camera[:, [0, 2]], atol=25)
        np.testing.assert_allclose(placed.root_camera[:, 1], -950 + 90 - ANKLE_HEIGHT, atol=6)
        assert fit.contacts.any(0).all()

    def test_feet_do_not_slide_and_errors_stay(self):
        true = walker()
        seen, up = tilted(noisy(true, 15, 80), (-8, 5, 3))
        placed, fit = stand_on_floor(seen, up)
        assert sliding_mm(placed, fit.contacts) < 0.01
        assert sliding_mm(replace(seen, joints=seen.joints @ level_rotation(up).T), fit.contacts) > 20
        turn = level_rotation(up) @ Rotation.from_euler("xyz", (-8, 5, 3), degrees=True).as_matrix()
        before = np.linalg.norm(seen.joints @ level_rotation(up).T - true.joints @ turn.T, axis=-1).mean()
        after = np.linalg.norm(placed.joints - true.joints @ turn.T, axis=-1).mean()
        assert after < 1.05 * before

    def test_contacts_are_those_of_the_walk(self):
        _, fit = stand_on_floor(noisy(walker(), 5, 40), (0, -1, 0))
        middles = np.arange(STEP_FRAMES // 2, len(fit.contacts), STEP_FRAMES)
        standing = np.array([[0, 1] if step % 2 == 0 else [1, 0] for step in range(len(middles))], dtype=bool)
        np.testing.assert_array_equal(fit.contacts[middles], standing)

    def test_bones_keep_their_length_where_legs_reach(self):
        seen = noisy(walker(), 10, 50)
        placed, _ = stand_on_floor(seen, (0, -1, 0))
        for joint, parent in enumerate(HUMAN36M.parents):
            before, after = (np.linalg.norm(m.joints[:, joint] - m.joints[:, parent], axis=-1) for m in (seen, placed))
            # stiff legs that are pulled forward or back are stretched a little
            np.testing.assert_allclose(after, before, atol=12)

    def test_up_is_estimated_from_who_stands(self):
        seen, up = tilted(walker(), (-12, 0, 4))
        assert np.linalg.norm(estimate_up(seen) - up) < 0.02
        placed, fit = stand_on_floor(seen)
        np.testing.assert_allclose(fit.up, estimate_up(seen))
        head = placed.joints[:, HUMAN36M.joints.index("head")].mean(0)
        assert np.degrees(np.arccos(-head[1] / np.linalg.norm(head))) < 2

    def test_a_picture_stands_on_its_lower_foot(self):
        body = standing_person()
        body["left_ankle"] = body["left_ankle"] + [0, 150, 0]
        motion = as_motion(body, root_camera=np.array([[0.0, 100, 4000]]))
        placed, fit = stand_on_floor(motion, (0, -1, 0))
        assert fit.contacts.tolist() == [[False, True]]
        assert -placed.joints_camera[0, ANKLES, 1] == pytest.approx([ANKLE_HEIGHT + 150, ANKLE_HEIGHT])
        assert placed.root_camera[0, [0, 2]].tolist() == pytest.approx([0, 4000], abs=0.1)

    def test_missing_joints_stay_missing(self):
        motion = walker()
        motion.joints[10:14, ANKLES[0]] = np.nan
        motion.root_camera[20] = np.nan
        placed, fit = stand_on_floor(motion, (0, -1, 0))
        assert np.isnan(placed.joints).any((1, 2)).sum() == 4
        assert np.isfinite(placed.root_camera).all()
        assert not fit.contacts[10:14, 0].any()

    def test_says_what_it_did(self):
        words = stand_on_floor(walker(), (0, -1, 0))[1].describe()
        assert words.startswith("on the floor: turned upright by 0.0 degrees, left foot on the ground in ")


def test_both_sides_a_bvh_do_not_slide_either(tmp_path):
    seen = noisy(walker(), 5, 60)
    ((path, note),) = write_poses(motion_rows([seen]), tmp_path / "walk.bvh", HUMAN36M, on_floor=True).items()
    assert "person 1 on the floor: turned upright by" in note
    _, (fit,) = stand_all_on_floor([with_constant_bones(seen)[0]])
    written = read_bvh(path)
    ankles = 1000 * written.positions(1)[:, [written.names.index(f"{side}_ankle") for side in ("left", "right")]]
    ways = [ankles[run, foot] for foot in range(2) for run in runs(fit.contacts[:, foot])]
    assert len(ways) >= 6
    assert max(np.ptp(way[:, [0, 2]], axis=0).max() for way in ways) < 5
    assert np.concatenate(ways)[:, 1] == pytest.approx(ANKLE_HEIGHT, abs=15)  # stiff legs do not reach everywhere


class TestRefusals:
    def test_without_a_place(self):
        with pytest.raises(ValueError, match="needs the root's place from the camera, and none is known"):
            stand_on_floor(as_motion(standing_person()))

    def test_without_ankles(self):
        motion = walker()
        motion.joints[:, ANKLES] = np.nan
        with pytest.raises(ValueError, match="no ankle is known in any frame"):
            stand_on_floor(motion, (0, -1, 0))
        with pytest.raises(ValueError, match="ankles and shoulders are not known together"):
            stand_on_floor(motion)

    def test_without_legs(self):
        chain = Skeleton("chain", ("a", "b"), (-1, 0), (), 0)
        with pytest.raises(ValueError, match="the skeleton 'chain' lacks"):
            both_sides(chain)


def test_contacts_of_less_than_a_tenth_of_a_second_do_not_count():
    ankles = np.zeros((30, 2, 3))
    ankles[:, 1, 1] = -200  # lifted
    ankles[:10, 0, 0] = np.arange(10) * 50  # at 1,500 mm/s
    ankles[10:, 0, 0] = 450
    ankles[24:, 0, 0] = 450 + np.arange(6) * 50
    contacts = find_contacts(ankles, np.arange(30) / 30)
    assert np.flatnonzero(contacts[:, 0]).tolist() == list(range(10, 24))
    assert not contacts[:, 1].any()
