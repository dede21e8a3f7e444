"""TRC files are what other programs read them as."""

import numpy as np
import pytest
from marker_examples import some_markers

from jointdetr.formats.trc import write_trc


def test_another_reader_finds_the_markers(tmp_path):
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
