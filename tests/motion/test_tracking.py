"""People keep their numbers."""

import json

import numpy as np
import pytest

from jointdetr.motion.tracking import Tracker, TrackingSettings, match_boxes
from jointdetr.people_jointdetr import body_box, is_there

SIZE = (640, 480)


def pose_in(box: list[float], found: float = 1.0) -> dict[str, np.ndarray]:
    """A pose of 17 joints that spans a box, of whose joints a share was found."""
    x, y, width, height = box
    points = np.random.default_rng(0).uniform((x, y), (x + width, y + height), (17, 2))
    points[0], points[1] = (x, y), (x + width, y + height)
    return {"joints_2d": points, "detected": np.arange(17) < round(17 * found)}


def test_body_is_larger_than_its_joints():
    joints = np.array([[100, 50], [140, 250], [np.nan, np.nan]])

    assert body_box(joints) == pytest.approx([84, 34, 72, 232])


def test_matching_is_best_for_all_together():
    """The greedy choice, the first box with the last, would leave the second without one."""
    known = [[0, 0, 100, 100], [40, 0, 100, 100]]
    found = [[-30, 0, 100, 100], [10, 0, 100, 100]]

    assert match_boxes(known, found) == [(0, 0), (1, 1)]
    assert match_boxes(known, [[500, 500, 10, 10]]) == []
    assert match_boxes([], found) == []


def test_box_goes_with_a_person_who_walks_steadily():
    tracker = Tracker(TrackingSettings())
    tracker.start([[100, 100, 50, 100]], 0.0)
    for frame in range(1, 40):
        tracker.see([pose_in([100 + 8 * frame, 100, 50, 100])], tracker.boxes(frame / 25), frame / 25, SIZE)
    x, y, width, height = tracker.boxes(40 / 25)[0]

    assert (x + width / 2, y + height / 2) == pytest.approx((100 + 8 * 40 + 25, 150), abs=2)
    assert (width, height) == pytest.approx((66, 116), abs=1)


def test_boxes_stay_where_they_are_if_they_are_to():
    tracker = Tracker(TrackingSettings(follow=False))
    tracker.start([[100, 100, 50, 100]], 0.0)
    tracker.see([pose_in([120, 100, 50, 100])], tracker.boxes(0.04), 0.04, SIZE)

    assert tracker.boxes(1.0) == [[100, 100, 50, 100]]


def test_people_are_born_keep_their_numbers_and_are_given_up():
    tracker = Tracker(TrackingSettings(patience_s=1.0))
    left, right = [10, 10, 50, 100], [300, 10, 50, 100]
    tracker.find([left], 0.0)
    tracker.find([right, [14, 12, 50, 100]], 0.5)
    assert [track.person for track in tracker.tracks] == [0, 1]
    assert tracker.boxes(0.5)[0] == pytest.approx([12.8, 11.4, 50, 100])

    for time_s in (1.0, 1.4, 1.8):
        assert tracker.see([pose_in(left, found=0.2), pose_in(right)], [left, right], time_s, SIZE) == [False, True]
        tracker.give_up(time_s, SIZE)
    assert [track.person for track in tracker.tracks] == [1]

    tracker.find([left, right], 2.0)
    assert [track.person for track in tracker.tracks] == [1, 2]


def test_who_leaves_the_picture_is_given_up_at_once():
    tracker = Tracker(TrackingSettings())
    tracker.find([[600, 100, 50, 100]], 0.0)
    tracker.tracks[0].velocity = [2000.0, 0.0]
    assert tracker.see([pose_in([690, 100, 50, 100])], [[690, 100, 50, 100]], 0.04, SIZE) == [False]
    tracker.give_up(0.04, SIZE)

    assert tracker.tracks == []


def test_given_people_are_looked_for_where_they_began():
    tracker = Tracker(TrackingSettings(patience_s=0.5))
    tracker.start([[100, 100, 50, 100]], 0.0)
    tracker.see([pose_in([120, 100, 50, 100])], [[100, 100, 50, 100]], 0.04, SIZE)
    assert tracker.boxes(0.04)[0] != [100, 100, 50, 100]
    tracker.see([pose_in([120, 100, 50, 100], found=0.0)], [[120, 100, 50, 100]], 0.6, SIZE)
    tracker.give_up(0.6, SIZE)

    assert tracker.boxes(0.7) == [[100, 100, 50, 100]]
    assert tracker.tracks[0].person == 0


def test_state_survives_json():
    tracker = Tracker(TrackingSettings())
    tracker.start([[1 / 3, 100, 50, 100]], 0.0)
    tracker.find([[300, 100, 50, 100]], 1 / 3)
    tracker.see([pose_in([20, 110, 50, 100]), pose_in([310, 110, 50, 100])], tracker.boxes(0.7), 0.7, SIZE)

    assert Tracker.of_state(tracker.settings, json.loads(json.dumps(tracker.state()))) == tracker


def test_pose_far_from_its_box_is_imagined():
    box = [100, 100, 50, 100]

    assert is_there(pose_in(box), box, SIZE)
    assert not is_there(pose_in([160, 100, 50, 100]), box, SIZE)
    assert not is_there(pose_in([0, 0, 300, 400]), box, SIZE)
    assert not is_there(pose_in(box, found=0.4), box, SIZE)


def test_where_there_is_a_detector_it_has_to_go_on_finding_people():
    tracker = Tracker(TrackingSettings(patience_s=1.0))
    left, right = [10, 10, 50, 100], [300, 10, 50, 100]
    tracker.find([left, right], 0.0)
    tracker.find([right], 0.8)
    for time_s in (0.9, 1.1):
        tracker.see([pose_in(left), pose_in(right)], [left, right], time_s, SIZE)
    tracker.give_up(1.1, SIZE, detected_only=True)

    assert [track.person for track in tracker.tracks] == [1]


def test_head_and_shoulders_are_somebody_whose_box_ends_with_the_picture():
    pose = pose_in([200, 300, 200, 1000])
    pose["joints_2d"][:, 1] = np.linspace(300, 1300, 17)
    shown = pose["joints_2d"][:, 1] <= SIZE[1]
    assert shown.sum() == 3
    pose["joints_2d"][3, 1] = 470.0
    pose["detected"] = np.arange(17) < 4
    assert is_there(pose, [200, 300, 200, 180], SIZE)
    tracker = Tracker(TrackingSettings())
    tracker.start([[200, 300, 200, 180]], 0.0)
    assert tracker.see([pose], tracker.boxes(0.0), 0.0, SIZE) == [True]
    (x, y, width, height) = tracker.tracks[0].box
    assert y + height == pytest.approx(SIZE[1], abs=1)
    pose["detected"][:3] = False  # of what is in the picture too little was found
    assert not is_there(pose, [200, 300, 200, 180], SIZE)
    pose["joints_2d"][3, 1] = 490.0
    assert not is_there(pose | {"detected": np.ones(17, bool)}, [200, 300, 200, 180], SIZE)  # hardly a joint is in it


def test_what_is_not_known_at_all_was_not_found():
    box = [100.0, 100.0, 50.0, 100.0]
    pose = pose_in(box, found=5 / 17)
    pose["joints_2d"][5:] = np.nan
    assert not is_there(pose, box, SIZE)
