"""What a visitor's camera sees now: frame after frame over a WebSocket, the people followed and smoothed.

The page holds back frames while others are on their way, so that none waits here for long, and none is kept.
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
from ..motion.prediction import VideoPredictor, VideoSettings
from ..motion.smoothing import LiveSmoother, SmoothingSettings
from ..people.words import NOBODY, count_people, describe_person
from ..picture_jointdetr import DECODING_ERRORS
from ..visualization.page import positions, skeleton_data
from .estimator import PoseEstimator

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
        """Look at the next frame, see `read_frame`, and return who is there, ready for JSON."""
        time_s, image = read_frame(message)
        if not time_s > self.time_s:
            raise ValueError(f"frames must come in the order of time, got {time_s:g} s after {self.time_s:g} s")
        [result] = self.predictor.predict_batch([Frame(self.frames, time_s, image)])
        self.frames, self.time_s = self.frames + 1, time_s
        rows = self.smooth(result.people)
        people = [
            {
                "id": row["person"] + 1,
                "joints": positions(row["joints"]),
                "points": positions(row["joints_2d"] / np.array(image.size), digits=4),  # parts of the picture
                "detected": row["detected"].tolist(),
            }
            for row in rows
        ]
        return {"time": time_s, "people": people, "words": report(rows)}


class LiveEndpoint:
    """The WebSocket for cameras: a frame is answered before the next one is read, one at a time for all visitors."""

    def __init__(self, estimator: PoseEstimator):
        self.estimator = estimator
        self.visitors = 0
        self.one_at_a_time = anyio.CapacityLimiter(1)

    async def serve(self, socket: WebSocket) -> None:
        """Look at one visitor's frames until the page stops, or is silent for too long."""
        await socket.accept()
        if self.visitors >= self.estimator.settings.max_live:
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
        with suppress(WebSocketDisconnect, TimeoutError):
            await socket.send_json({"skeleton": skeleton_data(self.estimator.skeleton)})
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
    """Return the time in seconds and the picture of a message: 8 bytes and a JPEG; ValueError for anything else."""
    if not TIME.size < len(message) <= MAX_FRAME_BYTES:
        raise ValueError(f"a frame must have up to {MAX_FRAME_BYTES} bytes, got {len(message)}")
    try:
        with Image.open(BytesIO(message[TIME.size :]), formats=["JPEG"]) as image:
            if max(image.size) <= MAX_SIDE_PX:
                return TIME.unpack_from(message)[0], image.convert("RGB")
    except DECODING_ERRORS as error:
        raise ValueError("a frame must be a time and a JPEG, this one could not be read") from error
    raise ValueError(f"a frame may have at most {MAX_SIDE_PX} pixels a side, got {max(image.size)}")


def report(people: Sequence[dict[str, Any]]) -> str:
    """Say who is there and how far off they are."""
    if not people:
        return f"{NOBODY.capitalize()}: step back until you are seen from the hips up."
    return f"{count_people(len(people))}: {'; '.join(map(describe_person, people))}."
