"""CMU Panoptic: people in the dome, from the official calibration, skeletons and HD films.

The data may be used for research only; this module reads a copy that the user has. SOURCE is one sequence, or a folder
of sequences, each laid out as the panoptic toolbox does it:

    NAME/calibration_NAME.json
    NAME/hdPose3d_stage1_coco19/body3DScene_00000100.json
    NAME/hdVideos/hd_00_16.mp4        or its frames: NAME/hdImgs/00_16/00_16_00000100.jpg

Positions are centimetres in the dome; `R`, `t` take them to a camera. The lenses are distorted;
`jointdetr.converters.reading` says what rows make of that. A joint counts as known above a confidence of 0.1. Who is
hidden is not known: `visible` is what lies inside the picture.

Rows of cameras 00_16 and 00_30, on which the field evaluates, are the split `test`, those of other cameras `train`.

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
from .reading import Lens, numbers, read_json, see, shown, whole_number

TEST_CAMERAS = ("00_16", "00_30")
CM_TO_MM = 10.0
LEAST_CONFIDENCE = 0.1
VIEW_MARGIN = 1.3


@dataclass(frozen=True)
class Panoptic(Converter):
    """Sequences of CMU Panoptic.

    Args:
        source: the folder of one sequence or of several.
        step: keep every `step`-th frame.
        cameras: names of HD cameras; empty takes all that have pictures.
    """

    source: Path
    step: int = 10
    cameras: tuple[str, ...] = ()
    skeleton: ClassVar[Skeleton] = PANOPTIC

    def recordings(self) -> list[Recording]:
        """One for each sequence and camera."""
        found = []
        for folder in self._sequences():
            for camera in _cameras_with_pictures(folder):
                if camera in self.cameras or not self.cameras:
                    split = "test" if camera in TEST_CAMERAS else "train"
                    found.append(Recording(f"{folder.name}-{camera}", split, _picture_source(folder, camera), camera))
        if not found:
            raise ValueError(
                f"{self.source} must have films as NAME/hdVideos/hd_00_16.mp4 or pictures as NAME/hdImgs/00_16/*.jpg"
                + (f" of the cameras {', '.join(self.cameras)}" if self.cameras else "")
            )
        return found

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """One row for each person in every `step`-th frame that has labels."""
        folder = recording.source.parents[1]
        camera = read_camera(folder / f"calibration_{folder.name}.json", recording.data)
        scenes = _scene_files(folder)
        for index, picture in _frames(recording, self.step):
            if index not in scenes:
                yield Skipped("no skeletons for this frame", frame=index)
                continue
            people = [_labels(camera, body) for body in read_bodies(scenes[index])]
            _require_size(picture, camera)
            in_view = [labels for labels in people if _is_in_view(labels["joints_2d"], camera.size)]
            if len(in_view) < len(people):
                yield Skipped("a person out of the camera's view", frame=index, count=len(people) - len(in_view))
            content = encode_picture(picture)["bytes"] if in_view else b""  # once for all people
            for labels in in_view:
                where = {"action": folder.name, "camera": recording.data, "frame": index}
                yield {"image": content, **labels, **where}

    def _sequences(self) -> list[Path]:
        """Folders of the sequences."""
        source = self.source.resolve()  # the name of the folder is that of the sequence
        files = [*source.glob("calibration_*.json"), *source.glob("*/calibration_*.json")]
        if not files:
            raise ValueError(f"{self.source} must hold calibration_NAME.json, or folders that do; got neither")
        wrong = [file for file in files if file.stem != f"calibration_{file.parent.name}"]
        if wrong:
            raise ValueError(f"{wrong[0]} must lie in a folder of the same name, got {wrong[0].parent.name!r}")
        return sorted(file.parent for file in files)


class DomeCamera(NamedTuple):
    """A calibrated camera.

    Args:
        intrinsics: `(3, 3)` px.
        lens: its distortion.
        rotation: `(3, 3)` from the dome to the camera.
        translation_mm: `(3,)` from the dome to the camera.
        size: width and height in px.
    """

    intrinsics: np.ndarray
    lens: Lens
    rotation: np.ndarray
    translation_mm: np.ndarray
    size: tuple[int, int]


def read_camera(path: Path, name: str) -> DomeCamera:
    """Read a camera from a calibration file.

    Raises:
        ValueError: There is no such camera, or its description is broken.
    """
    content = read_json(path)
    cameras = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(cameras, list) or not all(isinstance(camera, dict) for camera in cameras):
        raise ValueError(f"{path} must have a list `cameras`")
    found = next((camera for camera in cameras if camera.get("name") == name), None)
    if found is None:
        got = shown([camera.get("name") for camera in cameras])
        raise ValueError(f"{path} must have a camera with the `name` {name!r} among `cameras`, got {got}")
    arrays = {}
    for key, shape in {"K": (3, 3), "distCoef": (5,), "R": (3, 3), "t": (3, 1), "resolution": (2,)}.items():
        array = numbers(found.get(key))
        if array is None or array.shape != shape or not np.isfinite(array).all():
            got = shown(found.get(key))
            raise ValueError(f"{path}: `{key}` of camera {name} must be {shape} finite numbers, got {got}")
        arrays[key] = array
    width, height = arrays["resolution"].clip(0, 2**31).astype(int).tolist()
    k1, k2, p1, p2, k3 = arrays["distCoef"].tolist()
    lens = Lens((k1, k2, k3), (p1, p2))
    return DomeCamera(arrays["K"], lens, arrays["R"], CM_TO_MM * arrays["t"][:, 0], (width, height))


class DomePerson(NamedTuple):
    """A person of a frame: the number that follows them through the sequence, joints in mm in the dome, their mask."""

    number: int
    joints_dome: np.ndarray
    valid: np.ndarray


def read_bodies(path: Path) -> list[DomePerson]:
    """Read the skeletons of a frame.

    Raises:
        ValueError: The file is broken, or its skeletons are others than `joints19`.
    """
    content = read_json(path)
    bodies = content.get("bodies") if isinstance(content, dict) else None
    if not isinstance(bodies, list):
        raise ValueError(f"{path} must have a list `bodies`")
    people = []
    for number, body in enumerate(bodies):
        values = numbers(body.get("joints19")) if isinstance(body, dict) else None
        if values is None or values.shape != (19 * 4,):
            raise ValueError(
                f"{path}: entry {number} of `bodies` must have `joints19` of 76 numbers, got {shown(body)}"
            )
        identity = whole_number(body.get("id", number))
        if identity is None:
            raise ValueError(
                f"{path}: `id` of entry {number} of `bodies` must be a whole number, got {shown(body['id'])}"
            )
        joints = values.reshape(19, 4)
        valid = (joints[:, 3] > LEAST_CONFIDENCE) & np.isfinite(joints).all(axis=1)
        people.append(DomePerson(identity, CM_TO_MM * joints[:, :3], valid))
    return people


def _labels(camera: DomeCamera, body: DomePerson) -> dict[str, Any]:
    """What a row says about a person; 2D is known within the camera's view and a little around it."""
    joints = body.joints_dome @ camera.rotation.T + camera.translation_mm  # (joints, 3)
    labels = {"joints_3d": np.where(body.valid[:, None], joints, np.nan), "subject": str(body.number)}
    reach = VIEW_MARGIN * np.array(camera.size) / camera.intrinsics[[0, 1], [0, 1]] / 2
    slopes = joints[:, :2] / np.where(joints[:, 2:] > 0, joints[:, 2:], np.nan)
    near = body.valid & (np.abs(slopes) <= reach).all(axis=1)  # farther out a lens's polynomial turns back
    points = np.full((len(joints), 2), np.nan)
    if near.any():
        points[near], labels["intrinsics"] = see(joints[near], camera.intrinsics, camera.lens)
    return labels | {"joints_2d": points}


def _is_in_view(points: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether most joints, `(joints, 2)` px, are known and inside the picture."""
    return bool(is_inside(points, size).sum() > len(points) / 2)


def _frames(recording: Recording, step: int) -> Iterator[tuple[int, Image.Image | Path]]:
    """Index and picture of every `step`-th frame of a film, or of a folder of its frames."""
    if recording.source.is_file():
        yield from ((frame.index, frame.image) for frame in FrameReader(recording.source, step))
        return
    for path in sorted(recording.source.glob(f"{recording.data}_*.jpg")):
        index = int(path.stem.rpartition("_")[2])
        if index % step == 0:
            yield index, path


def _require_size(picture: Image.Image | Path, camera: DomeCamera) -> None:
    """Refuse pictures of another size than the camera was calibrated for."""
    if isinstance(picture, Path):
        with Image.open(picture) as image:
            size = upright_size(image)
    else:
        size = picture.size
    if size != camera.size:
        raise ValueError(
            f"pictures must have the size of the calibration, {camera.size}, got {size}; is its `resolution` right?"
        )


def _scene_files(folder: Path) -> dict[int, Path]:
    """Files of the skeletons by frame.

    Raises:
        ValueError: There are none.
    """
    files = sorted((folder / "hdPose3d_stage1_coco19").rglob("body3DScene_*.json"))
    if not files:
        raise ValueError(f"{folder} must have skeletons as hdPose3d_stage1_coco19/body3DScene_00000000.json, got none")
    return {int(file.stem.rpartition("_")[2]): file for file in files}


def _cameras_with_pictures(folder: Path) -> list[str]:
    """Names of the HD cameras of a sequence that have a film or pictures."""
    films = {file.stem.removeprefix("hd_") for file in (folder / "hdVideos").glob("hd_*.mp4")}
    return sorted(films | {file.name for file in (folder / "hdImgs").glob("*") if file.is_dir()})


def _picture_source(folder: Path, camera: str) -> Path:
    """Film of a camera, or the folder of its pictures."""
    film = folder / "hdVideos" / f"hd_{camera}.mp4"
    return film if film.is_file() else folder / "hdImgs" / camera
