"""Motions as markers: axes, the ground, even times and what is missing."""

from dataclasses import replace

import numpy as np
import pytest
from standing import as_motion, standing_person

from jointdetr.formats.markers import describe, markers_of


def test_without_a_camera_somebody_stands_on_the_ground():
    markers = markers_of(as_motion(standing_person()))
    places = dict(zip(markers.names, markers.positions[0], strict=True))
    assert places["right_ankle"].tolist() == pytest.approx([-100, 0, 0])  # faces the viewer, so right is left
    assert places["pelvis"].tolist() == pytest.approx([0, 860, 0])
    assert places["neck"].tolist() == pytest.approx([0, 1480, 100])


def test_with_a_camera_it_is_measured_from_there():
    motion = as_motion(standing_person(), root_camera=np.array([[200.0, 300.0, 4000.0]]))
    assert markers_of(motion).positions[0, 0].tolist() == pytest.approx([200, -300, -4000])


def test_uneven_times_become_even_and_gaps_stay():
    motion = as_motion(*[standing_person()] * 6)
    motion.joints[2, 5] = np.nan
    uneven = replace(motion, times_s=np.array([0.0, 0.04, 0.08, 0.16, 0.20, 0.24]))
    markers = markers_of(uneven)
    assert len(markers.positions) == 7
    assert markers.rate_hz == pytest.approx(25)
    assert np.isnan(markers.positions).any((1, 2)).tolist() == [False, False, True, True, False, False, False]
    assert describe(markers) == "7 frames at 25 Hz; missing: left_knee in 2"


def test_nobody_is_refused():
    motion = as_motion(standing_person())
    with pytest.raises(ValueError, match="no joint has a position"):
        markers_of(replace(motion, joints=np.full_like(motion.joints, np.nan)))
