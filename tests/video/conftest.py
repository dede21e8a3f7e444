"""Tiny films, written on the spot."""

from collections.abc import Callable
from pathlib import Path

import pytest
from films import FilmSettings, corner_pictures, write_film


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Makes a film of `count` frames in the test's folder."""

    def make(name: str = "film.mp4", count: int = 12, **settings: object) -> Path:
        return write_film(tmp_path / name, corner_pictures(count), FilmSettings(**settings))

    return make
