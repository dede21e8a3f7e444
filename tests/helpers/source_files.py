"""Small files in the formats of other data sets, for the tests of their converters."""

from collections.abc import Iterable
from pathlib import Path

import av
import cdflib.cdfwrite
import h5py
import numpy as np
import scipy.io
from conversion_examples import STANDING
from PIL import Image

RECORDED_OF_17 = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
FOCAL, CENTRE = (1145.0, 1143.8), (512.5, 515.5)
LENS = (-0.2071, 0.2478, -0.0031, -0.0014, -0.0010)


def write_film(path: Path, num_frames: int, size: tuple[int, int] = (64, 64), first: int = 0, rate: int = 50) -> Path:
    """A film whose frame `i` has the `shade` of `first + i`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in range(first, first + num_frames):
            grey = Image.new("RGB", size, (shade(frame),) * 3)
            container.mux(stream.encode(av.VideoFrame.from_image(grey)))
        container.mux(stream.encode())
    return path


def shade(frame: int) -> int:
    """Grey of a film's frame, far from that of the frames beside it."""
    return 20 + 47 * frame % 211


def brightness(image: Image.Image) -> float:
    """Mean of all pixels."""
    return float(np.asarray(image).mean())


def motion(num_frames: int, place: Iterable[float]) -> np.ndarray:
    """Someone who turns on a spot: `(frames, 17, 3)` mm, x right, y down, z forward."""
    angle = 0.1 * np.arange(num_frames)
    turn = np.zeros((num_frames, 3, 3))
    turn[:, 0, 0] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 0, 2], turn[:, 2, 0], turn[:, 1, 1] = np.sin(angle), -np.sin(angle), 1
    return np.einsum("fij,kj->fki", turn, STANDING) + np.array(place)


def as_recorded(joints: np.ndarray) -> np.ndarray:
    """Human3.6M's 32 joints `(frames, 32, 3)` of 17; those that no one uses are at 9999."""
    recorded = np.full((len(joints), 32, 3), 9999.0)
    recorded[:, RECORDED_OF_17] = joints
    return recorded


def write_poses(path: Path, recorded: np.ndarray) -> Path:
    """A CDF file of Human3.6M: the variable `Pose`, one record of (frames, 96)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pose = recorded.reshape(1, len(recorded), -1).astype(np.float32)
    with cdflib.cdfwrite.CDF(path, cdf_spec={"Compressed": 6}) as file:
        spec = {
            "Variable": "Pose",
            "Data_Type": file.CDF_FLOAT,
            "Num_Elements": 1,
            "Rec_Vary": True,
            "Dim_Sizes": list(pose.shape[1:]),
        }
        file.write_var(spec, var_data=pose)
    return path


def write_metadata(path: Path) -> np.ndarray:
    """Human3.6M's metadata.xml with cameras at random places: the places in `w0`, `(4, 11, 6)`."""
    rng = np.random.default_rng(0)
    placed = np.concatenate([rng.uniform(-3, 3, (4, 11, 3)), rng.uniform(-4000, 4000, (4, 11, 3))], axis=-1)
    inner = np.tile([*FOCAL, *CENTRE, *LENS], (4, 1))
    words = " ".join(f"{number:.8f}" for number in [*placed.ravel(), *inner.ravel()])
    path.write_text(f'<?xml version="1.0"?><metadata><mapping/><w0>[{words}]</w0></metadata>')
    return placed


def write_human36m(folder: Path, num_frames: int = 70, film_frames: int | None = None) -> dict[str, np.ndarray]:
    """Two subjects, one action and one camera, in Human3.6M's official layout: their joints by subject."""
    folder.mkdir(parents=True, exist_ok=True)
    write_metadata(folder / "metadata.xml")
    joints = {}
    for number, subject in enumerate(("S1", "S9")):
        joints[subject] = motion(num_frames, (300.0 * number, 100, 5000))
        poses = folder / subject / "MyPoseFeatures" / "D3_Positions_mono" / "WalkingDog 1.54138969.cdf"
        write_poses(poses, as_recorded(joints[subject]))
        film = folder / subject / "Videos" / "WalkingDog 1.54138969.mp4"
        write_film(film, film_frames or num_frames, (1000, 1002))
    return joints


MPI_OF_HUMAN36M = [10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9]
RECORDED_OF_MPI = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
MPI_INTRINSICS = np.array([[1497.7, 0, 1024.7], [0, 1497.1, 1051.4], [0, 0, 1]])


def mpi_motion(num_frames: int, place: Iterable[float] = (100, 50, 4000)) -> np.ndarray:
    """`motion` with the joints of MPI-INF-3DHP."""
    return motion(num_frames, place)[:, MPI_OF_HUMAN36M]


def mpi_points(joints: np.ndarray, intrinsics: np.ndarray = MPI_INTRINSICS) -> np.ndarray:
    """Pinhole projection."""
    homogeneous = joints @ intrinsics.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def write_mpi_training(
    folder: Path, num_frames: int = 20, cameras: tuple[int, ...] = (0, 8), **changes: object
) -> None:
    """A training sequence of MPI-INF-3DHP: MAT 5, calibration, films of some cameras, a quarter as large."""
    folder.mkdir(parents=True, exist_ok=True)
    small = MPI_INTRINSICS * [[0.25], [0.25], [1]]
    cells = {name: np.empty((14, 1), dtype=object) for name in ("annot2", "annot3", "univ_annot3")}
    for camera in range(14):
        joints = mpi_motion(num_frames, (100 + 10 * camera, 50, 4000))
        recorded = {"annot2": np.zeros((num_frames, 28, 2)), "annot3": np.zeros((num_frames, 28, 3))}
        recorded["annot2"][:, RECORDED_OF_MPI] = mpi_points(joints, small)
        recorded["annot3"][:, RECORDED_OF_MPI] = joints
        recorded["univ_annot3"] = 0.9 * recorded["annot3"]
        for name, cell in cells.items():
            cell[camera, 0] = recorded[name].reshape(num_frames, -1)
    scipy.io.savemat(folder / "annot.mat", {**cells, "frames": np.arange(num_frames), **changes})
    lines = ["Skeletool Camera Calibration File V1.0"]
    for camera in range(14):
        matrix = np.eye(4)
        matrix[:3, :3] = small
        numbers = " ".join(map(str, matrix.ravel()))
        identity = " ".join(map(str, np.eye(4).ravel()))
        lines += [f"name          {camera}", "  sensor      10 10", "  size        512 512", "  animated    0"]
        lines += [f"  intrinsic   {numbers} ", f"  extrinsic   {identity} ", "  radial      0"]
    (folder / "camera.calibration").write_text("\n".join(lines) + "\n")
    for camera in cameras:
        write_film(folder / "imageSequence" / f"video_{camera}.avi", num_frames, (512, 512), rate=25)


def write_mpi_test(folder: Path, num_frames: int = 12, first: int = 1, **changes: object) -> np.ndarray:
    """A test sequence of MPI-INF-3DHP, HDF5 MAT and pictures, its third frame not valid: joints `(frames, 17, 3)`."""
    joints = mpi_motion(num_frames)
    valid = np.ones((num_frames, 1))
    valid[2] = 0
    common = 0.9 * (joints - joints[:, 14:15])
    arrays = {
        "annot2": mpi_points(joints)[:, None],
        "annot3": joints[:, None],
        "univ_annot3": common[:, None] + [0.0, 0.0, 2000.0],
        "valid_frame": valid,
        "activity_annotation": np.full((num_frames, 1), 3.0),
    }
    pictures = folder / "imageSequence"
    pictures.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "annot_data.mat", "w", userblock_size=512) as file:
        for name, array in {**arrays, **changes}.items():
            if array is not None:
                file[name] = array
    for frame in range(num_frames):
        Image.new("RGB", (2048, 2048), (shade(frame),) * 3).save(pictures / f"img_{frame + first:06d}.jpg")
    return joints
