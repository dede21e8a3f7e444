"""A webcam, for which FFmpeg's test picture stands in."""

import time

import pytest

from jointdetr.formats.film import FrameReader, newest_frames, open_webcam


def test_picture_of_a_device_is_read():
    reader = FrameReader("testsrc=size=64x48:rate=10:duration=1", container_format="lavfi")
    frames = list(reader)

    assert len(frames) == 10
    assert frames[0].image.size == (64, 48)
    assert frames[-1].time_s == pytest.approx(0.9)


def test_slow_work_sees_the_newest_frame():
    """The test picture comes as fast as it is asked for, so that much is left out."""
    reader = FrameReader("testsrc=size=64x48:rate=100:duration=20", container_format="lavfi")
    frames = []
    for frame in newest_frames(reader):
        frames.append(frame)
        time.sleep(0.02)

    assert 1 < len(frames) < 1000
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert frames[-1].time_s == pytest.approx(19.99)
    assert max(after.time_s - before.time_s for before, after in zip(frames, frames[1:], strict=False)) > 0.015


def test_reading_ends_with_the_loop():
    frames = newest_frames(FrameReader("testsrc=size=64x48:rate=100", container_format="lavfi"))
    assert next(frames).index == 0
    frames.close()


def test_error_of_the_device_arrives():
    with pytest.raises(FileNotFoundError, match="no such file"):
        list(newest_frames(FrameReader("/dev/no-such-camera", container_format="v4l2")))


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_webcam_that_is_not_there_is_named(platform):
    with pytest.raises(ValueError, match="webcam 97 cannot be opened: "):
        open_webcam(97, platform)
