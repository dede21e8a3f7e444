"""MPI-INF-3DHP: the official training and test files, and the npz of mmpose with pictures.

    S1/Seq1/annot.mat, camera.calibration, imageSequence/video_0.avi     training, MAT 5
    TS1/annot_data.mat, imageSequence/img_000001.jpg                     test, HDF5 MAT; pictures count from 1

Folders may lie one deeper, as in `train/S1` or `mpi_inf_3dhp_test_set/TS1`. docs/data.md says which cameras and labels
are taken. Scaled people (`univ_annot3`) are put farther from or nearer to the camera by the same factor, so they look
the same in the picture. Test sequences come without a camera; one without a lens is fitted to all true labels of a
sequence, as mmpose does.

Shape vocabulary: `frames`, `joints` (17), `recorded` joints (28 in training files).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.io

from ..skeleton_jointdetr import MPI_INF_3DHP
from .conversion import Converter, Recording, RowLabels, Skipped
from .human36m import Human36mNpz, PictureName
from .reading import film_rows, fit_intrinsics, require_shape

JOINTS_OF_28 = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
"""Where the 17 joints of the skeleton `mpi_inf_3dhp` stand among the 28 of the training files."""

RECORDED_JOINTS = 28
CHEST_CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
ACTIVITIES = dict(
    enumerate(("Stand/Walk", "Exercise", "Sit on Chair", "Reach/Crouch", "On Floor", "Sports", "Misc."), start=1)
)
TRUE_LABELS, COMMON_LABELS = "annot3", "univ_annot3"
Labels = Literal["annot3", "univ_annot3"]
USUAL_TRAINING_STEP = 5
PICTURE_NAME = re.compile(r"(?P<scene>(?P<subject>T?S\d+)(_(?P<sequence>Seq\d+)_Cam(?P<camera>\d+))?)_(?P<number>\d+)")


def mpi_inf_3dhp_converter(
    source: Path, images: Path | None = None, step: int | None = None, labels: Labels | None = None
) -> Converter:
    """Make the converter of the files that are there."""
    if source.is_file():
        beside = source.parent.parent / "images"
        return MpiInf3dhpNpz(source, images or (beside if beside.is_dir() else source.parent), step)
    return MpiInf3dhp(source, step, labels)


@dataclass(frozen=True)
class MpiInf3dhp(Converter):
    """The official files."""

    source: Path  # the folder with the subjects, of training, test, or both
    step: int | None = None  # take every `step`-th frame; None: every fifth for training and all valid ones for tests
    labels: Labels | None = None  # None takes `annot3` for training and `univ_annot3` for tests
    skeleton = MPI_INF_3DHP

    def recordings(self) -> list[Recording]:
        """One for each film of training, and for each test sequence."""
        found = []
        for path in _find(self.source, "S[0-9]*/Seq[0-9]*/annot.mat"):
            subject, sequence = path.parts[-3:-1]
            found += [Recording(f"{subject}_{sequence}_{camera}", "train", path, camera) for camera in CHEST_CAMERAS]
        found += [Recording(path.parent.name, "test", path) for path in _find(self.source, "TS[0-9]*/annot_data.mat")]
        if not found:
            wanted = "S*/Seq*/annot.mat, TS*/annot_data.mat"
            raise ValueError(f"{self.source} must hold {wanted}, or both, here or one folder deeper; found none")
        return found

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """Rows of a film or of a test sequence."""
        return self._training_rows(recording) if recording.split == "train" else self._test_rows(recording)

    def _training_rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        path, camera = recording.source, recording.data
        points, joints = read_training_labels(path, self.labels or TRUE_LABELS)[camera]
        intrinsics = read_calibration(path.with_name("camera.calibration"))[camera]
        film = path.parent / "imageSequence" / f"video_{camera}.avi"
        subject, sequence = path.parts[-3:-1]
        same = {"intrinsics": intrinsics, "subject": subject, "action": sequence, "camera": str(camera)}

        def labels(frame: int) -> dict[str, Any]:
            return same | {"joints_3d": joints[frame], "joints_2d": points[frame]}

        return film_rows(film, len(joints), self.step or USUAL_TRAINING_STEP, labels)

    def _test_rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        arrays = read_test_sequence(recording.source)
        points, joints, valid = arrays["annot2"], arrays[TRUE_LABELS], arrays["valid_frame"].ravel() > 0
        intrinsics = fit_intrinsics(joints[valid].reshape(-1, 3), points[valid].reshape(-1, 2))
        if self.labels != TRUE_LABELS:
            joints = put_at_common_size(arrays[COMMON_LABELS], joints)
        pictures = recording.source.parent / "imageSequence"
        first = 0 if (pictures / "img_000000.jpg").is_file() else 1
        for frame in range(0, len(joints), self.step or 1):
            if not valid[frame]:
                yield Skipped("the data set says that the frame is not valid", frame=frame)
                continue
            yield {
                "image": pictures / f"img_{frame + first:06d}.jpg",
                "joints_3d": joints[frame],
                "joints_2d": points[frame],
                "intrinsics": intrinsics,
                "subject": recording.name,
                "action": ACTIVITIES.get(int(arrays["activity_annotation"].flat[frame]), ""),
                "camera": "0",
                "frame": frame,
            }


@dataclass(frozen=True)
class MpiInf3dhpNpz(Human36mNpz):
    """The npz of mmpose with pictures such as `S1_Seq1_Cam0_000001.jpg` and `TS1_000001.jpg`, with the true labels."""

    skeleton = MPI_INF_3DHP

    def parse_name(self, name: str) -> PictureName:
        """Read subject, sequence, camera and number from a picture's name."""
        found = PICTURE_NAME.fullmatch(Path(name).stem)
        if found is None:
            raise ValueError(f"{self.annotations}: expected pictures such as S1_Seq1_Cam0_000001.jpg, got {name!r}")
        part = found.groupdict(default="")
        return PictureName(part["scene"], part["subject"], part["sequence"], part["camera"], int(part["number"]))


@lru_cache(maxsize=1)  # the recordings of the cameras of one file follow one another
def read_training_labels(path: Path, labels: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Read `annot.mat`: by camera, points `(frames, joints, 2)` px and joints `(frames, joints, 3)` mm."""
    try:
        content = scipy.io.loadmat(path, variable_names=["annot2", labels])
    except Exception as error:  # a broken MAT file raises nearly anything
        raise ValueError(f"{path}: expected a MAT file, got none that can be read: {error}") from error
    if missing := sorted({"annot2", labels} - set(content)):
        raise ValueError(f"{path} must have the variables annot2 and {labels}, {missing} are missing")
    by_camera = {}
    for camera in CHEST_CAMERAS:
        arrays = []
        for name, channels in (("annot2", 2), (labels, 3)):
            cell = np.asarray(content[name][camera, 0])
            require_shape(cell, (None, RECORDED_JOINTS * channels), f"`{name}` of {path}, camera {camera},")
            arrays.append(cell.reshape(-1, RECORDED_JOINTS, channels)[:, JOINTS_OF_28].astype(np.float64))
        require_shape(arrays[0], (len(arrays[1]), None, 2), f"`annot2` of {path}, camera {camera},")
        by_camera[camera] = tuple(arrays)
    return by_camera


def read_test_sequence(path: Path) -> dict[str, np.ndarray]:
    """Read `annot_data.mat`: points `(frames, joints, 2)` px, joints `(frames, joints, 3)` mm, and more by frame."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError('HDF5 files need h5py: pip install "jointdetr[convert]"') from error
    names = ("annot2", TRUE_LABELS, COMMON_LABELS, "valid_frame", "activity_annotation")
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: np.asarray(file[name]) for name in names if name in file}
    except OSError as error:
        raise ValueError(f"{path}: expected an HDF5 MAT file, got none that can be read: {error}") from error
    if missing := sorted(set(names) - set(arrays)):
        raise ValueError(f"{path} must have the variables {', '.join(names)}; {missing} are missing")
    count = arrays["valid_frame"].size
    for name, channels in (("annot2", 2), (TRUE_LABELS, 3), (COMMON_LABELS, 3)):
        require_shape(arrays[name], (count, 1, len(MPI_INF_3DHP.joints), channels), f"`{name}` of {path}")
        arrays[name] = arrays[name][:, 0]
    return arrays


def read_calibration(path: Path) -> dict[int, np.ndarray]:
    """Read the `(3, 3)` px intrinsics of each camera from `camera.calibration`, where no lens is bent."""
    cameras: dict[int, np.ndarray] = {}
    name = -1
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        keyword, *words = line.split() or [""]
        try:
            if keyword == "name":
                name = int(words[0])
            elif keyword == "intrinsic":
                cameras[name] = np.array([float(word) for word in words]).reshape(4, 4)[:3, :3]
            elif keyword == "radial" and any(float(word) for word in words):
                raise ValueError("lenses are not read")
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}, line {number}: expected a camera's {keyword}, got {words}: {error}") from error
    if missing := sorted(set(CHEST_CAMERAS) - set(cameras)):
        raise ValueError(f"{path} must have the cameras {CHEST_CAMERAS}, {missing} are missing")
    return cameras


def put_at_common_size(common: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Place people of the common size where they look as the true ones do: `(frames, joints, 3)` mm.

    Whatever their place was, they get that of the true ones times the factor between their sizes.
    """
    root = slice(MPI_INF_3DHP.root, MPI_INF_3DHP.root + 1)
    relative, true_relative = common - common[:, root], true - true[:, root]
    size, true_size = (np.sqrt((part**2).sum(axis=(1, 2), keepdims=True)) for part in (relative, true_relative))
    with np.errstate(divide="ignore", invalid="ignore"):  # frames that are not valid are all zeros
        return relative + true[:, root] * (size / true_size)


def _find(folder: Path, pattern: str) -> list[Path]:
    """Files in a folder or one folder deeper."""
    return sorted(folder.glob(pattern)) or sorted(folder.glob(f"*/{pattern}"))
