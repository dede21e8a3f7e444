"""Measures of a motion against hand answers."""

import numpy as np
import pytest
from shaky import shaky_motion

from jointdetr.motion import motion_rows
from jointdetr.motion.jitter import Jitter, acceleration, acceleration_error, mean_acceleration, measure_jitter


def test_acceleration_by_hand():
    joints = np.zeros((4, 1, 3))
    joints[:, 0, 0] = [0, 1, 4, 9]  # mm, 2 mm/frame^2
    even, uneven = np.arange(4) / 10, np.array([0.0, 0.1, 0.2, 0.4])

    np.testing.assert_allclose(acceleration(joints)[:, 0, 0], [2, 2])
    np.testing.assert_allclose(acceleration(joints, even)[:, 0, 0], [200, 200])
    np.testing.assert_allclose(acceleration(joints, uneven)[:, 0, 0], [200, (25 - 30) / 0.15])
    assert acceleration_error(joints, 0 * joints) == 2
    assert acceleration_error(joints, joints + 5, even) == 0
    joints[0] = np.nan
    assert mean_acceleration(joints, even) == pytest.approx(200)
    joints[1] = np.nan
    assert np.isnan(mean_acceleration(joints))


def test_jitter_is_the_mean_acceleration_of_the_rows():
    first, second = (shaky_motion(50, person)[0] for person in range(2))
    jitter = Jitter()
    rows = list(measure_jitter(motion_rows([first, second]), jitter))

    assert len(rows) == 100
    expected = (mean_acceleration(first.joints) + mean_acceleration(second.joints)) / 2
    assert jitter.means() == pytest.approx((expected, expected * 30**2))
    assert np.isnan(Jitter().means()).all()
