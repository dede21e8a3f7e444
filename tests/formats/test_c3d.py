"""C3D files are what another program than their writer reads them as."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from marker_examples import some_markers

from jointdetr.formats.c3d import write_c3d


def test_another_reader_finds_the_markers(tmp_path):
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
