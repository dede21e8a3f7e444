"""Films read and written frame by frame: times, indices, orientation and what is broken."""

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest
from films import corner_pictures, write_film, write_sound
from PIL import Image

from jointdetr.formats.film import FilmWriter, FrameReader, is_film

UNEVEN_TIMES = [0, 40, 100, 110, 300, 310, 320, 500, 600, 700, 1000, 2000]


def red_corner(image: Image.Image) -> str:
    """Where the red quarter of `corner_pictures` is."""
    red = np.asarray(image)[..., 0] > 128
    height, width = red.shape
    quarters = {
        "top left": red[: height // 2, : width // 2],
        "top right": red[: height // 2, width // 2 :],
        "bottom left": red[height // 2 :, : width // 2],
        "bottom right": red[height // 2 :, width // 2 :],
    }
    return max(quarters, key=lambda name: quarters[name].mean())


def test_times_are_those_of_the_film_also_at_a_variable_rate(film):
    frames = list(FrameReader(film(times_ms=UNEVEN_TIMES)))

    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.array(UNEVEN_TIMES) / 1000, atol=1e-6)
    brightness = [np.asarray(frame.image)[40, 32, 0] for frame in frames]
    assert brightness == pytest.approx([4 * number for number in range(12)], abs=3)


def test_time_starts_with_the_film(film):
    """A transport stream counts from an arbitrary time."""
    frames = list(FrameReader(film("film.ts", count=5)))

    np.testing.assert_allclose([frame.time_s for frame in frames], [0, 0.04, 0.08, 0.12, 0.16], atol=1e-4)


def test_steps_start_and_stop(film):
    path = film(count=12)

    assert [frame.index for frame in FrameReader(path, step=3, start=2, stop=10)] == [2, 5, 8]
    assert [frame.time_s for frame in FrameReader(path, start=11)] == pytest.approx([0.44])
    assert list(FrameReader(path, start=12)) == []
    with pytest.raises(ValueError, match="`step` must be 1 or more"):
        FrameReader(path, step=0)


@pytest.mark.parametrize(
    ("rotation", "corner", "size"),
    [(-90, "top right", (48, 64)), (90, "bottom left", (48, 64)), (180, "bottom right", (64, 48))],
)
def test_rotation_flag_is_applied(film, rotation, corner, size):
    """A phone held upright writes -90: turn clockwise to show."""
    image = next(iter(FrameReader(film(rotation=rotation)))).image

    assert red_corner(image) == corner
    assert image.size == size


def test_pixels_are_made_square(film):
    assert next(iter(FrameReader(film(pixel_aspect=Fraction(2))))).image.size == (128, 48)


def test_truncated_film_gives_what_is_there(film, caplog):
    path = film(count=60, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    reader = FrameReader(path)
    with caplog.at_level(logging.WARNING):
        frames = list(reader)

    assert 1 <= len(frames) < 60
    assert reader.broken >= 1
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    assert f"{path}: {reader.broken} broken frames were left out" in caplog.text


def test_damage_in_the_middle_does_not_end_the_film(film):
    path = film("film.ts", count=60)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = bytes(400)
    path.write_bytes(content)
    frames = list(FrameReader(path))

    assert len(frames) > 40
    assert frames[-1].time_s == pytest.approx(59 * 0.04, abs=1e-3)
    assert (np.diff([frame.time_s for frame in frames]) > 0).all()


def test_header_tells_rate_and_length(film):
    info = FrameReader(film(count=50)).info()

    assert info.num_frames == 50
    assert info.frame_rate == pytest.approx(25, rel=0.05)


def test_what_is_no_film_is_named(tmp_path: Path):
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mkv").write_bytes(b"")
    write_sound(tmp_path / "sound.mp4")

    for name in ("text.mp4", "empty.mkv"):
        with pytest.raises(ValueError, match=f"{name}: expected a film, got what cannot be opened as one"):
            list(FrameReader(tmp_path / name))
    with pytest.raises(ValueError, match=r"sound.mp4: expected a film, got a file with audio streams only"):
        list(FrameReader(tmp_path / "sound.mp4"))
    with pytest.raises(FileNotFoundError, match=r"none.mp4: no such file"):
        list(FrameReader(tmp_path / "none.mp4"))


def test_memory_does_not_grow_with_the_film(tmp_path: Path):
    """250 frames of 230 kB held at once would be 58 MB."""
    frames = FrameReader(write_film(tmp_path / "long.mp4", corner_pictures(300, (320, 240))))
    process = psutil.Process()
    resident = [process.memory_info().rss for frame in frames if frame.index >= 50]

    assert len(resident) == 250
    assert max(resident) - resident[0] < 15e6


def test_film_has_the_times_it_was_given(tmp_path):
    times_s = [0.0, 0.04, 0.2, 0.25, 1.0]
    with FilmWriter(tmp_path / "film.mp4") as film:
        for picture, time_s in zip(corner_pictures(5, (65, 49)), times_s, strict=True):
            film.write(picture, time_s)
    frames = list(FrameReader(tmp_path / "film.mp4"))

    np.testing.assert_allclose([frame.time_s for frame in frames], times_s, atol=1e-4)
    assert frames[0].image.size == (64, 48)


def test_a_film_without_pictures_is_no_file(tmp_path):
    with FilmWriter(tmp_path / "empty.mp4"):
        pass

    assert not (tmp_path / "empty.mp4").exists()


def gif(path: Path, count: int) -> Path:
    first, *others = corner_pictures(count, (96, 64))
    first.save(path, save_all=True, append_images=others, duration=40)
    return path


def test_a_gif_of_several_pictures_is_a_film_that_can_be_read(tmp_path):
    moving = gif(tmp_path / "moving.gif", 4)
    assert is_film(str(moving))
    assert len(list(FrameReader(moving))) == 4
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
