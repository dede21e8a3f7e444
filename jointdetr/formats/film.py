"""Films read and written, a frame at a time: upright pictures with the times at which a player shows them.

PyAV (FFmpeg) decodes. Only one frame is held at a time, however long the film is. Times are seconds from the start of
the film as a player counts it, and always grow; indices count every frame of the film from 0, broken ones included.
A webcam is opened by what the platform has for it: v4l2 on Linux, AVFoundation on macOS, DirectShow on Windows.
"""

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlparse

from PIL import Image

from ..picture_jointdetr import DECODING_ERRORS

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)
FILM_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv")
)
PICTURE_SUFFIXES = frozenset((".bmp", ".heic", ".jpeg", ".jpg", ".jxl", ".png", ".tif", ".tiff", ".webp"))
FALLBACK_RATE = 25.0  # frames a second where neither the file nor its frames tell
CAMERA_PAUSE_S = 0.005
CAMERA_RATE = "30"  # AVFoundation's default of 29.97 is refused by Apple's own cameras
TIME_BASE = Fraction(1, 90_000)  # of MPEG; every usual rate fits
QUALITY = "18"  # x264's constant rate factor: hardly to be told from the original


class Frame(NamedTuple):
    """A picture of a film."""

    index: int  # its number in the film, from 0
    time_s: float  # when it is shown, from the start of the film
    image: Image.Image  # upright, RGB


class FilmInfo(NamedTuple):
    """What a film's header says."""

    frame_rate: float  # on average
    duration_s: float | None
    num_frames: int | None  # by the header or by rate and length; None if neither tells
    size: tuple[int, int]  # width and height of its pictures in square pixels, before they are turned upright


@dataclass
class FrameReader:
    """Reads a film; iterating over it gives its frames in the order in which they are shown, in constant memory.

    Rotation that the file asks for is applied, pixels that are not square are made so, and times are true presentation
    times, also at a variable frame rate. Broken frames are left out and counted in a warning of this module's logger;
    the index goes on counting over them.
    """

    path: str | Path  # or the name of a camera
    step: int = 1  # gives every `step`-th frame
    start: int = 0  # index of the first frame to give
    stop: int | None = None  # index of the first one after the last; None: to the end
    container_format: str | None = None  # FFmpeg's name where the file does not tell, such as "v4l2" for a camera
    options: Mapping[str, str] = field(default_factory=dict)  # of that format, such as a camera's frame rate

    def __post_init__(self) -> None:
        if self.step < 1 or self.start < 0:
            raise ValueError(f"`step` must be 1 or more and `start` 0 or more, got {self.step} and {self.start}")
        self.broken = 0  # frames that could not be decoded in the last pass
        self.av = require_av()

    def info(self) -> FilmInfo:
        """Read the header of the film."""
        with self._open() as (container, stream, rate):
            duration_s = None if container.duration is None else container.duration / self.av.time_base
            guessed = None if duration_s is None else round(duration_s * rate)
            size = (_square_width(stream.width, stream), stream.height)
            return FilmInfo(rate, duration_s, stream.frames or guessed, size)

    def __iter__(self) -> Iterator[Frame]:
        self.broken = 0
        with self._open() as (container, stream, rate):
            start_s = 0.0 if container.start_time is None else container.start_time / self.av.time_base
            index, time_s = -1, -math.inf
            for index, frame in self._decode(container, stream):
                told_s = -math.inf if frame.time is None else frame.time - start_s
                # one period after the frame before where the file does not tell, or goes back
                time_s = told_s if told_s > time_s else max(time_s + 1.0 / rate, 0.0)
                if self.stop is not None and index >= self.stop:
                    break
                if index >= self.start and (index - self.start) % self.step == 0:
                    yield Frame(index, time_s, _upright_image(frame, stream))
        if self.broken:
            logger.warning("%s: %d broken frames were left out", self.path, self.broken)
        if index < 0:
            raise ValueError(f"{self.path}: expected a film, got a file without a frame that can be read")

    @contextmanager
    def _open(self) -> Iterator[tuple["InputContainer", "VideoStream", float]]:
        """Open the film: its first stream of moving pictures, which a song's cover is not, and its frames a second."""
        try:
            container = self.av.open(str(self.path), format=self.container_format, options=dict(self.options))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.path}: no such file") from error
        except (self.av.FFmpegError, OSError, ValueError) as error:
            reason = (isinstance(error, OSError | self.av.FFmpegError) and error.strerror) or error
            raise ValueError(f"{self.path}: expected a film, got what cannot be opened as one: {reason}") from error
        with container:
            still = self.av.stream.Disposition.attached_pic
            moving = [stream for stream in container.streams.video if not stream.disposition & still]
            if not moving:
                kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "no"
                raise ValueError(f"{self.path}: expected a film, got a file with {kinds} streams only")
            yield container, moving[0], float(moving[0].average_rate or moving[0].guessed_rate or FALLBACK_RATE)

    def _decode(self, container: "InputContainer", stream: "VideoStream") -> Iterator[tuple[int, "VideoFrame"]]:
        """Yield (index, frame) of every frame that can be decoded, and count the others in `broken`."""
        index = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except self.av.error.BlockingIOError:  # a camera on macOS that has no new picture yet
                time.sleep(CAMERA_PAUSE_S)
                packets = container.demux(stream)
                continue
            except self.av.FFmpegError as error:
                logger.debug("%s: near frame %d: %s", self.path, index, error)
                self.broken += 1
                index += 1
                continue
            for frame in frames:
                self.broken += frame.is_corrupt
                if not frame.is_corrupt:
                    yield index, frame
                index += 1


def require_av() -> ModuleType:
    """Import PyAV, or say which extra brings it."""
    try:
        import av
    except ImportError as error:
        raise ImportError('films need PyAV: pip install "jointdetr[video]"') from error
    return av


def _upright_image(frame: "VideoFrame", stream: "VideoStream") -> Image.Image:
    """Return the picture with square pixels, turned as the file asks for."""
    image = frame.to_image()
    width = _square_width(image.width, stream)
    if width != image.width:
        image = image.resize((width, image.height), Image.Resampling.BICUBIC)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _square_width(width: int, stream: "VideoStream") -> int:
    """Return how many pixels wide a picture is once they are square."""
    return max(round(width * float(stream.sample_aspect_ratio or 1)), 1)


class FilmWriter:
    """Writes pictures as an H.264 film (MP4), each shown at its own time; a context manager.

    Pictures have the size of the first one; a last column or row that makes it odd is cut off. `frame_rate` is about
    right, the times count.
    """

    def __init__(self, path: str | Path, frame_rate: float = 25.0) -> None:
        self.path, self.frame_rate = path, frame_rate
        self._stream: VideoStream | None = None

    def __enter__(self) -> "FilmWriter":
        self.av = require_av()
        self._container: OutputContainer = self.av.open(str(self.path), "w", format="mp4")
        return self

    def __exit__(self, *error: object) -> None:
        with self._container:
            if self._stream is not None:
                self._container.mux(self._stream.encode())

    def write(self, image: Image.Image, time_s: float) -> None:
        """Add a picture that is shown from `time_s` on."""
        stream = self._stream
        if stream is None:
            rate = Fraction(self.frame_rate).limit_denominator(1001)
            options = {"crf": QUALITY, "preset": "veryfast"}
            stream = self._stream = self._container.add_stream("libx264", rate=rate, options=options)
            stream.width, stream.height = (max(length - length % 2, 2) for length in image.size)
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = TIME_BASE
        frame = self.av.VideoFrame.from_image(image.crop((0, 0, stream.width, stream.height)))
        frame.pts, frame.time_base = round(time_s / TIME_BASE), TIME_BASE
        self._container.mux(stream.encode(frame))


def is_film(source: str) -> bool:
    """Tell whether a file or URL is a film: moving pictures, of whatever kind.

    Where neither name nor content tells, it is taken for a picture, whose reader then says what is wrong with it.
    """
    is_address = "://" in source
    suffix = Path(urlparse(source).path if is_address else source).suffix.lower()
    if suffix in FILM_SUFFIXES or suffix in PICTURE_SUFFIXES:
        return suffix in FILM_SUFFIXES
    if is_address or not Path(source).is_file():
        return False
    with suppress(*DECODING_ERRORS), Image.open(source) as image:
        return image.format == "GIF" and image.n_frames > 1
    with suppress(ImportError, ValueError):
        FrameReader(source).info()
        return True
    return False


def open_webcam(number: int, platform: str = sys.platform) -> FrameReader:
    """Return the reader of a camera by its number, 0 for the first; `platform` is as `sys.platform` names it."""
    if platform == "darwin":
        reader = FrameReader(str(number), container_format="avfoundation", options={"framerate": CAMERA_RATE})
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
