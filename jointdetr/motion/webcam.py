"""What a camera sees now: the newest frame each time, however long the one before took.

PyAV opens the camera by what the platform has for it: v4l2 on Linux, AVFoundation on macOS, DirectShow on Windows.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread

from ..formats.film import Frame, FrameReader, require_av

FRAME_RATE = "30"  # AVFoundation's default of 29.97 is refused by Apple's own cameras


def open_webcam(number: int, platform: str = sys.platform) -> FrameReader:
    """Return the reader of a camera by its number, 0 for the first; `platform` is as `sys.platform` names it."""
    if platform == "darwin":
        reader = FrameReader(str(number), container_format="avfoundation", options={"framerate": FRAME_RATE})
    elif platform == "win32":
        reader = FrameReader(f"video={_directshow_name(number)}", container_format="dshow")
    else:
        reader = FrameReader(f"/dev/video{number}", container_format="v4l2")
    try:
        reader.info()
    except (OSError, ValueError) as error:
        raise ValueError(f"webcam {number} cannot be opened: {error}") from error
    return reader


def _directshow_name(number: int) -> str:
    """The name of a camera on Windows, which has no numbers for them."""
    devices = require_av().device.enumerate_input_devices("dshow")
    cameras = [device.name for device in devices if "video" in device.media_types]
    if number >= len(cameras):
        raise ValueError(f"there is no webcam {number}, found {cameras or 'none'}")
    return cameras[number]


def newest_frames(reader: FrameReader) -> Iterator[Frame]:
    """Yield frames of a source that does not wait, leaving out those that came while the last one was in work.

    A thread goes on reading and keeps the newest frame alone. Indices count the frames that are given.
    """
    newest: Queue[Frame | BaseException | None] = Queue(maxsize=1)
    done = Event()
    Thread(target=_read, args=(reader, newest, done), daemon=True).start()
    try:
        for index, frame in enumerate(iter(newest.get, None)):
            if isinstance(frame, BaseException):
                raise frame
            yield frame._replace(index=index)
    finally:
        done.set()


def _read(reader: FrameReader, newest: Queue, done: Event) -> None:
    """Put frame after frame into the queue in place of the one there; at the end None, or what went wrong."""
    last: BaseException | None = None
    try:
        for frame in reader:
            if done.is_set():
                return
            with suppress(Empty):
                newest.get_nowait()
            with suppress(Full):
                newest.put_nowait(frame)
    except (OSError, ValueError) as error:
        last = error
    while not done.is_set():
        with suppress(Full):
            newest.put(last, timeout=0.1)
            return
