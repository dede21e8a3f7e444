"""A process that goes through a film of squares slowly and keeps every step, for `test_recording` to kill."""

import sys
import time
from pathlib import Path
from typing import Any

from squares import SQUARE, SquareEstimator

from jointdetr.formats.film import FrameReader
from jointdetr.motion.prediction import VideoPredictor, VideoSettings
from jointdetr.motion.recording import PoseRecording, record_poses


class SlowEstimator(SquareEstimator):
    """Takes 30 ms for a frame."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(0.03)
        return super().__call__(*args, **kwargs)


def main(film: str, table: str) -> None:
    predictor = VideoPredictor(SlowEstimator(), VideoSettings(batch_size=2))
    recording = PoseRecording(Path(table), SQUARE, {"film": "squares"})
    for _ in record_poses(lambda start: FrameReader(film, start=start), predictor, recording, keep_every_s=0.05):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
