"""Films and pictures told apart, by real files of either kind."""

from pathlib import Path

import pytest
from films import corner_pictures, write_film
from PIL import Image

from jointdetr.formats.film import is_film, iterate_frames


def gif(path: Path, count: int) -> Path:
    first, *others = corner_pictures(count, (96, 64))
    first.save(path, save_all=True, append_images=others, duration=40)
    return path


def test_a_gif_of_several_pictures_is_a_film_that_can_be_read(tmp_path):
    moving = gif(tmp_path / "moving.gif", 4)
    assert is_film(str(moving))
    assert len(list(iterate_frames(moving))) == 4
    assert not is_film(str(gif(tmp_path / "still.gif", 1)))


@pytest.mark.parametrize("name", ["film.ts", "film", "film.dat"])
def test_films_without_a_telling_name_are_looked_into(tmp_path, name):
    written = write_film(tmp_path / "film.mp4", corner_pictures(4, (96, 64)))
    assert is_film(str(written.rename(tmp_path / name)))


def test_what_is_no_film_is_none(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "picture", "PNG")
    (tmp_path / "program.ts").write_text("export const answer: number = 42;\n")
    (tmp_path / "notes.txt").write_text("Words, and nothing to see.\n")
    for name in ("picture", "program.ts", "notes.txt", "absent", "absent.gif"):
        assert not is_film(str(tmp_path / name))
    assert not is_film("https://example.com/clip.gif")


@pytest.mark.parametrize(
    ("source", "expected"), [("a.MP4", True), ("https://x.org/b.webm?c=1", True), ("d.jpg", False)]
)
def test_names_that_tell_are_believed(source, expected):
    assert is_film(source) is expected
