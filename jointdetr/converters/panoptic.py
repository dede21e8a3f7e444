"""CMU Panoptic: people in the dome, from the official calibration, skeletons and HD films.

SOURCE is one sequence, or a folder of sequences, each laid out as the panoptic toolbox does it:

    NAME/calibration_NAME.json
    NAME/hdPose3d_stage1_coco19/body3DScene_00000100.json
    NAME/hdVideos/hd_00_16.mp4        or its frames: NAME/hdImgs/00_16/00_16_00000100.jpg

Positions are centimetres in the dome; `R`, `t` take them to a camera. The lenses are distorted;
`jointdetr.converters.reading` says what rows make of that.

Shape vocabulary: `people`, `joints` (19).

Source: Joo et al., "Panoptic Studio", PAMI 2017; https://github.com/CMU-Perceptual-Computing-Lab/panoptic-toolbox
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from ..data.rows import encode_picture, is_inside
from ..formats.film import FrameReader
from ..picture_jointdetr import upright_size
from ..skeleton_jointdetr import PANOPTIC, Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped
from .reading import Fields, Lens, read_json, see

TEST_CAMERAS = ("00_16", "00_30")
CM_TO_MM = 10.0
LEAST_CONFIDENCE = 0.1
VIEW_MARGIN = 1.3


@dataclass(frozen=True)
class Panoptic(Converter):
    """Sequences of CMU Panoptic."""

    source: Path  # the folder of one sequence or of several
    step: int = 10  # keep every `step`-th frame
    cameras: tuple[str, ...] = ()  # names of HD cameras; empty takes all that have pictures
    skeleton: ClassVar[Skeleton] = PANOPTIC

    def recordings(self) -> list[Recording]:
        """One for each sequence and camera."""
        source = self.source.resolve()  # the name of the folder is that of the sequence
        files = [*source.glob("calibration_*.json"), *source.glob("*/calibration_*.json")]
        if not files:
            raise ValueError(f"{self.source} must hold calibration_NAME.json, or folders that do; got neither")
        found = []
        for folder in sorted(file.parent for file in files):
            of_cameras = {path.name: path for path in (folder / "hdImgs").glob("*") if path.is_dir()}
            of_cameras |= {path.stem.removeprefix("hd_"): path for path in (folder / "hdVideos").glob("hd_*.mp4")}
            for camera, pictures in sorted(of_cameras.items()):
                if camera in self.cameras or not self.cameras:
                    split = "test" if camera in TEST_CAMERAS else "train"
                    found.append(Recording(f"{folder.name}-{camera}", split, pictures, camera))
        if not found:
            chosen = f" of the cameras {', '.join(self.cameras)}" if self.cameras else ""
            expected = f"films as NAME/hdVideos/hd_00_16.mp4 or pictures as NAME/hdImgs/00_16/*.jpg{chosen}"
            raise ValueError(f"{self.source} must have {expected}")
        return found

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """One row for each person in every `step`-th frame that has labels."""
        folder = recording.source.parents[1]
        camera = read_camera(folder / f"calibration_{folder.name}.json", recording.data)
        files = (folder / "hdPose3d_stage1_coco19").rglob("body3DScene_*.json")
        scenes = {int(file.stem.rpartition("_")[2]): file for file in files}
        for index, picture in _frames(recording, self.step):
            if index not in scenes:
                yield Skipped("no skeletons for this frame", frame=index)
                continue
            people = [_labels(camera, *body) for body in read_bodies(scenes[index])]
            if isinstance(picture, Path):
                with Image.open(picture) as image:
                    size = upright_size(image)
            else:
                size = picture.size
            if size != camera.size:
                expected = f"the size of the calibration, {camera.size}"
                raise ValueError(f"pictures must have {expected}, got {size}; is its `resolution` right?")
            in_view = [row for row in people if is_inside(row["joints_2d"], camera.size).mean() > 0.5]
            if len(in_view) < len(people):
                yield Skipped("a person out of the camera's view", frame=index, count=len(people) - len(in_view))
            content = encode_picture(picture)["bytes"] if in_view else b""  # once for all people
            where = {"action": folder.name, "camera": recording.data, "frame": index}
            yield from ({"image": content, **labels, **where} for labels in in_view)


class DomeCamera(NamedTuple):
    """A calibrated camera."""

    intrinsics: np.ndarray  # (3, 3) px
    lens: Lens
    rotation: np.ndarray  # (3, 3) from the dome to the camera
    translation_mm: np.ndarray  # (3,)
    size: tuple[int, int]  # width and height in px


def read_camera(path: Path, name: str) -> DomeCamera:
    """Read a camera from a calibration file."""
    cameras = Fields(str(path), read_json(path)).objects("cameras")
    found = next((camera for camera in cameras if camera.values.get("name") == name), None)
    if found is None:
        raise ValueError(f"{path} must have a camera with the `name` {name!r} among `cameras`, got none")
    shapes = {"K": (3, 3), "distCoef": (5,), "R": (3, 3), "t": (3, 1), "resolution": (2,)}
    arrays = {key: found.array(key, shape) for key, shape in shapes.items()}
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise found.error(key, "finite numbers")
    width, height = arrays["resolution"].clip(0, 2**31).astype(int).tolist()
    k1, k2, p1, p2, k3 = arrays["distCoef"].tolist()
    lens = Lens((k1, k2, k3), (p1, p2))
    return DomeCamera(arrays["K"], lens, arrays["R"], CM_TO_MM * arrays["t"][:, 0], (width, height))


def read_bodies(path: Path) -> list[tuple[int, np.ndarray]]:
    """Read the people of a frame: the number that follows them through the sequence, `(joints, 3)` mm in the dome."""
    people = []
    for number, body in enumerate(Fields(str(path), read_json(path)).objects("bodies")):
        joints = body.array("joints19", (19 * 4,)).reshape(19, 4)
        valid = (joints[:, 3] > LEAST_CONFIDENCE) & np.isfinite(joints).all(axis=1)
        people.append((body.whole("id", number), np.where(valid[:, None], CM_TO_MM * joints[:, :3], np.nan)))
    return people


def _labels(camera: DomeCamera, number: int, joints_dome: np.ndarray) -> dict[str, Any]:
    """What a row says about a person; 2D is known within the camera's view and a little around it."""
    joints = joints_dome @ camera.rotation.T + camera.translation_mm  # (joints, 3), NaN where not known
    labels = {"joints_3d": joints, "subject": str(number)}
    reach = VIEW_MARGIN * np.array(camera.size) / camera.intrinsics[[0, 1], [0, 1]] / 2
    slopes = joints[:, :2] / np.where(joints[:, 2:] > 0, joints[:, 2:], np.nan)
    near = (np.abs(slopes) <= reach).all(axis=1)  # farther out a lens's polynomial turns back
    points = np.full((len(joints), 2), np.nan)
    if near.any():
        points[near], labels["intrinsics"] = see(joints[near], camera.intrinsics, camera.lens)
    return labels | {"joints_2d": points}


def _frames(recording: Recording, step: int) -> Iterator[tuple[int, Image.Image | Path]]:
    """Index and picture of every `step`-th frame of a film, or of a folder of its frames."""
    if recording.source.is_file():
        yield from ((frame.index, frame.image) for frame in FrameReader(recording.source, step))
        return
    for path in sorted(recording.source.glob(f"{recording.data}_*.jpg")):
        index = int(path.stem.rpartition("_")[2])
        if index % step == 0:
            yield index, path
