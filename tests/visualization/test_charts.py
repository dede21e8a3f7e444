"""The figure of joint angles shows each of them once, with its uncertainty, and breaks lines where angles go round."""

import numpy as np
from moving_people import moving

from jointdetr.motion.angles import MIDDLE_ANGLES, SIDE_ANGLES, joint_angles
from jointdetr.visualization import angle_figure


def test_every_angle_is_a_line_with_a_band():
    angles = joint_angles(moving(frames=20, sigmas=np.full((20, 17), 30.0)))
    panels = angle_figure(angles).axes
    assert [panel.get_title(loc="left") for panel in panels] == [
        name.replace("_", " ") for name in [*SIDE_ANGLES, *MIDDLE_ANGLES]
    ]
    assert [len(panel.get_lines()) for panel in panels] == [2] * 8 + [1] * 8
    assert [len(panel.collections) for panel in panels] == [2] * 8 + [1] * 8
    knee = panels[3].get_lines()[1]
    np.testing.assert_allclose(knee.get_ydata(), angles["right_knee_flexion"])


def test_a_line_is_broken_where_an_angle_goes_round():
    angles = joint_angles(moving(frames=4))
    angles.degrees[:, angles.names.index("right_shoulder_plane")] = [170, 178, -178, -170]
    drawn = angle_figure(angles).axes[4].get_lines()[1].get_ydata()
    assert np.isnan(drawn).tolist() == [False, True, False, False]
