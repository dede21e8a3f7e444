"""What a visitor's camera sees now: frame after frame over a WebSocket, the people followed and smoothed.

The page holds back frames while others are on their way, so that none waits here for long, and none is kept.

Shape vocabulary: joints.
"""

import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any

import anyio
import numpy as np
from anyio.to_thread import run_sync
from PIL import Image
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..formats.film import Frame
from ..formats.skeletons import joint_sides
from ..motion.prediction import VideoPredictor, VideoSettings
from ..motion.smoothing import LiveSmoother, SmoothingSettings
from ..people.words import NOBODY, count_people, describe_person
from ..picture_jointdetr import DECODING_ERRORS
from .estimator import PoseEstimator
from .settings import DemoSettings

TIME = struct.Struct("<d")  # seconds by the visitor's clock, before the JPEG of each frame
MAX_FRAME_BYTES = 1_000_000
MAX_SIDE_PX = 1280
PATIENCE_S = 15.0
BUSY = "Other visitors' cameras keep this server busy: try again in a while."


class LiveSession:
    """The people before one visitor's camera."""

    def __init__(self, estimator: PoseEstimator):
        smoothing = SmoothingSettings("one-euro")
        video = VideoSettings(has_detector=estimator.detector is not None, smoothing=smoothing)
        self.predictor = VideoPredictor(estimator, video)
        self.smooth = LiveSmoother(smoothing)
        self.frames = 0
        self.time_s = -np.inf

    def see(self, message: bytes) -> dict[str, Any]:
        """Look at the next frame and return who is there, ready for JSON.

        Args:
            message: Its time in seconds, 8 bytes, and the picture as JPEG.

        Raises:
            ValueError: It is no frame, too large, or not later than the one before.
        """
        time_s, image = read_frame(message)
        if not time_s > self.time_s:
            raise ValueError(f"frames must come in the order of time, got {time_s:g} s after {self.time_s:g} s")
        [result] = self.predictor.predict_batch([Frame(self.frames, time_s, image)])
        self.frames, self.time_s = self.frames + 1, time_s
        rows = self.smooth(result.people)
        return {"time": time_s, "people": [_plain(row, image.size) for row in rows], "words": report(rows)}


class LiveEndpoint:
    """The WebSocket for cameras: a frame is answered before the next one is read, one at a time for all visitors."""

    def __init__(self, estimator: PoseEstimator, settings: DemoSettings):
        self.estimator, self.settings = estimator, settings
        self.visitors = 0
        self.one_at_a_time = anyio.CapacityLimiter(1)

    async def serve(self, socket: WebSocket) -> None:
        """Look at one visitor's frames until the page stops, or is silent for too long."""
        await socket.accept()
        if self.visitors >= self.settings.max_live:
            await self._refuse(socket, BUSY)
            return
        self.visitors += 1
        try:
            await self._answer(socket)
        except ValueError as error:
            await self._refuse(socket, f"{error}.")
        finally:
            self.visitors -= 1

    async def _answer(self, socket: WebSocket) -> None:
        session = LiveSession(self.estimator)
        skeleton = self.estimator.skeleton
        names = {"joints": skeleton.joints, "parents": skeleton.parents, "root": skeleton.root}
        with suppress(WebSocketDisconnect, TimeoutError):
            await socket.send_json({"skeleton": {**names, "sides": joint_sides(skeleton)}})
            while True:
                with anyio.fail_after(PATIENCE_S):
                    message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                start = time.perf_counter()
                answer = await run_sync(session.see, message.get("bytes") or b"", limiter=self.one_at_a_time)
                await socket.send_json(answer | {"seconds": round(time.perf_counter() - start, 4)})

    async def _refuse(self, socket: WebSocket, words: str) -> None:
        with suppress(WebSocketDisconnect):
            await socket.send_json({"error": words[:1].upper() + words[1:]})
            await socket.close()


def read_frame(message: bytes) -> tuple[float, Image.Image]:
    """Return the time in seconds and the picture of a message.

    Raises:
        ValueError: It is none, or too large.
    """
    if not TIME.size < len(message) <= MAX_FRAME_BYTES:
        raise ValueError(f"a frame must have up to {MAX_FRAME_BYTES} bytes, got {len(message)}")
    try:
        with Image.open(BytesIO(message[TIME.size :]), formats=["JPEG"]) as image:
            picture = image.convert("RGB") if max(image.size) <= MAX_SIDE_PX else None
    except DECODING_ERRORS as error:
        raise ValueError("a frame must be a time and a JPEG, this one could not be read") from error
    if picture is None:
        raise ValueError(f"a frame may have at most {MAX_SIDE_PX} pixels a side, got {max(image.size)}")
    return TIME.unpack_from(message)[0], picture


def report(people: Sequence[dict[str, Any]]) -> str:
    """Say who is there and how far off they are."""
    if not people:
        return f"{NOBODY.capitalize()}: step back until you are seen from head to foot."
    return f"{count_people(len(people))}: {'; '.join(map(describe_person, people))}."


def _plain(row: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """A person for the page: joints in mm, their points as parts of the picture, null where missing."""
    return {
        "id": row["person"] + 1,
        "joints": _lists(row["joints"], 1),
        "points": _lists(row["joints_2d"] / np.array(size), 4),
        "detected": row["detected"].tolist(),
    }


def _lists(points: np.ndarray, digits: int) -> list[list[float] | None]:
    known = np.isfinite(points).all(-1)
    rounded = points.round(digits).tolist()
    return [point if is_known else None for point, is_known in zip(rounded, known, strict=True)]
