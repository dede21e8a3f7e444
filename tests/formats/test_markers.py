"""Motions as markers: axes, the ground, even times, what is missing; TRC and C3D files as other programs read them."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from marker_examples import some_markers
from standing import as_motion, standing_person

from jointdetr.formats.markers import describe, markers_of, write_c3d, write_trc


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


def test_another_reader_finds_the_markers_of_a_trc_file(tmp_path):
    trc = pytest.importorskip("trc")
    markers = some_markers()
    write_trc(markers, tmp_path / "film.trc")
    read = trc.TRCData()
    read.load(str(tmp_path / "film.trc"))
    assert read["Markers"] == list(markers.names)
    assert (read["Units"], read["NumFrames"], read["DataRate"], read["FileName"]) == ("mm", 40, 29.97, "film.trc")
    np.testing.assert_allclose(read["Time"], 0.4 + np.arange(40) / 29.97, atol=1e-6)
    positions = np.stack([read[name] for name in markers.names], axis=1)
    np.testing.assert_allclose(positions, markers.positions, atol=6e-4)


def test_opensim_finds_the_markers(tmp_path):
    opensim = pytest.importorskip("opensim")
    markers = some_markers()
    write_trc(markers, tmp_path / "film.trc")
    table = opensim.TimeSeriesTableVec3(str(tmp_path / "film.trc"))
    assert table.getColumnLabels() == markers.names
    assert table.getTableMetaDataString("Units") == "mm"
    rows = [table.getRowAtIndex(frame) for frame in range(table.getNumRows())]
    positions = [[[row[marker][axis] for axis in range(3)] for marker in range(3)] for row in rows]
    np.testing.assert_allclose(positions, markers.positions, atol=6e-4)


def test_another_reader_finds_the_markers_of_a_c3d_file(tmp_path):
    pytest.importorskip("c3d")
    ezc3d = pytest.importorskip("ezc3d")
    markers = some_markers()
    write_c3d(markers, tmp_path / "film.c3d")
    read = ezc3d.c3d(str(tmp_path / "film.c3d"))
    parameters = read["parameters"]["POINT"]
    assert parameters["LABELS"]["value"] == list(markers.names)
    assert (parameters["UNITS"]["value"], parameters["X_SCREEN"]["value"], parameters["Y_SCREEN"]["value"]) == (
        ["mm"],
        ["+X"],
        ["+Z"],
    )
    assert parameters["RATE"]["value"][0] == pytest.approx(29.97)
    assert read["header"]["points"]["first_frame"] == 12  # 0.4 s, as ezc3d counts from 0
    right, away, up = read["data"]["points"][:3].transpose(0, 2, 1)  # (frames, markers) each
    np.testing.assert_allclose(np.stack([right, up, -away], axis=-1), markers.positions, atol=1e-3)


def test_more_frames_than_a_file_counts_are_refused(tmp_path):
    markers = replace(some_markers(), first_s=4000.0)
    with pytest.raises(ValueError, match="counts at most 65535 frames, got frames 119881 to 119920"):
        write_c3d(markers, tmp_path / "film.c3d")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "c3d", None)
    with pytest.raises(ImportError, match=r'pip install "jointdetr\[biomechanics\]"'):
        write_c3d(some_markers(), tmp_path / "film.c3d")
