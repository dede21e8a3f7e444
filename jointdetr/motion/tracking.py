"""Who is who from frame to frame: people keep their numbers, and the last pose tells where to look next.

A person's next box is the one around the joints just found, so the network itself does the tracking. Boxes from
outside (a detector's, say) are matched to the people already known by overlap, with one optimal assignment.

Shape vocabulary: people, joints. Boxes are x, y, width, height in px.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..people_jointdetr import body_box, box_overlaps, clip_box, is_there

LEAST_OVERLAP = 0.3  # of a found box with a known one, to be the same person
PLACE_GAIN, SPEED_GAIN = 0.7, 0.2
"""How far a box follows the joints just found, without jitter: shares of the surprise (an alpha-beta filter)."""


@dataclass(frozen=True)
class TrackingSettings:
    """How people are followed."""

    follow: bool = True  # move each box along with its person; False: leave the boxes where they were given
    patience_s: float = 1.0  # who has not been seen for longer is given up, and has another number when seen again

    def __post_init__(self) -> None:
        if not 0 < self.patience_s < np.inf:
            raise ValueError(f"`patience_s` must be positive, got {self.patience_s}")


@dataclass
class Track:
    """A person who is being followed."""

    person: int  # number of the person
    box: list[float]  # where the person was when last seen
    seen_s: float
    found_s: float  # when a box from outside was last that of this person
    velocity: list[float] = field(default_factory=lambda: [0.0, 0.0])  # of the box, x and y in px/s
    start: list[float] | None = None  # the given box to go back to when the person is lost; None: give the person up

    def box_at(self, time_s: float) -> list[float]:
        """Where to look for the person: the box moved on at its velocity."""
        x, y, width, height = self.box
        passed_s = time_s - self.seen_s
        return [x + self.velocity[0] * passed_s, y + self.velocity[1] * passed_s, width, height]

    def follow(self, box: Sequence[float], time_s: float) -> None:
        """Move on to where the person is now seen."""
        expected, passed_s = np.array(self.box_at(time_s)), time_s - self.seen_s
        difference = np.array(box) - expected
        middle = difference[:2] + difference[2:] / 2
        size = expected[2:] + PLACE_GAIN * difference[2:]
        self.box = [*(expected[:2] + expected[2:] / 2 + PLACE_GAIN * middle - size / 2).tolist(), *size.tolist()]
        if passed_s > 0:
            self.velocity = (np.array(self.velocity) + SPEED_GAIN * middle / passed_s).tolist()
        self.seen_s = time_s


@dataclass
class Tracker:
    """The people of a film at one moment."""

    settings: TrackingSettings
    tracks: list[Track] = field(default_factory=list)
    next_person: int = 0
    found_s: float | None = None  # when boxes from outside last came

    @classmethod
    def of_state(cls, settings: TrackingSettings, state: Mapping[str, Any]) -> "Tracker":
        """Make the tracker that said `state`, to go on with a film."""
        tracks = [Track(**track) for track in state["tracks"]]
        return cls(settings, tracks, state["next_person"], state["found_s"])

    def state(self) -> dict[str, Any]:
        """Say everything that the next frames depend on, in words for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "settings"}

    def boxes(self, time_s: float) -> list[list[float]]:
        """Where to look for each person at a time, in the order of their numbers."""
        return [track.box_at(time_s) for track in self.tracks]

    def start(self, boxes: Sequence[Sequence[float]], time_s: float) -> None:
        """Take on people whose boxes are given once and for all; they are never given up."""
        for box in boxes:
            self._take_on(box, time_s, start=[float(number) for number in box])

    def find(self, boxes: Sequence[Sequence[float]], time_s: float) -> None:
        """Match boxes of people just found to the people known, and take on those who are new."""
        self.found_s = time_s
        matches = match_boxes(self.boxes(time_s), boxes)
        for known, found in matches:
            self.tracks[known].follow(boxes[found], time_s)
            self.tracks[known].found_s = time_s
        for number in sorted(set(range(len(boxes))) - {found for _, found in matches}):
            self._take_on(boxes[number], time_s)

    def see(
        self,
        poses: Sequence[Mapping[str, np.ndarray]],
        boxes: Sequence[Sequence[float]],
        time_s: float,
        size: tuple[int, int],
    ) -> list[bool]:
        """Take note of the poses `joints_2d` and `detected` found at boxes of a picture, and move these.

        The picture is of `size` (width, height). Returns for each person whether they are there, see [`is_there`].
        """
        there = [is_there(pose, box, size) for pose, box in zip(poses, boxes, strict=True)]
        for track, pose, seen in zip(self.tracks, poses, there, strict=True):
            if seen and self.settings.follow:
                track.follow(clip_box(body_box(pose["joints_2d"]), size), time_s)
            elif seen:
                track.seen_s = time_s
        return there

    def give_up(self, time_s: float, size: tuple[int, int], detected_only: bool = False) -> None:
        """Forget who has not been seen for too long or has left the picture of (width, height) px.

        Who was given at the start is looked for there again. With `detected_only` it does not do to be seen: the
        network imagines people where it is shown none, so a detector has to go on finding them.
        """
        kept = []
        for track in self.tracks:
            x, y, width, height = track.box_at(time_s)
            is_away = not (-width < x < size[0] and -height < y < size[1])
            last_s = track.found_s if detected_only else track.seen_s
            if is_away or time_s - last_s > self.settings.patience_s:
                if track.start is None:
                    continue
                track.box, track.velocity, track.seen_s = track.start, [0.0, 0.0], time_s
            kept.append(track)
        self.tracks = kept

    def _take_on(self, box: Sequence[float], time_s: float, start: list[float] | None = None) -> None:
        self.tracks.append(Track(self.next_person, [float(number) for number in box], time_s, time_s, start=start))
        self.next_person += 1


def match_boxes(known: Sequence[Sequence[float]], found: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Indices (known, found) of boxes, paired for the greatest sum of overlaps; who hardly overlaps has no partner."""
    if not len(known) or not len(found):
        return []
    overlaps = box_overlaps(np.array(known, float), np.array(found, float))
    overlaps[overlaps < LEAST_OVERLAP] = 0.0
    pairs = zip(*linear_sum_assignment(-overlaps), strict=True)
    return [(int(first), int(second)) for first, second in pairs if overlaps[first, second] > 0]
