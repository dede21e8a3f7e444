"""TRC and C3D files are what other programs than their writers read them as."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from marker_examples import some_markers

from jointdetr.formats.markers import write_c3d, write_trc


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
