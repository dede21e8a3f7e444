"""What `jointdetr predict` was asked for, shared by its three kinds of source: pictures, films and data sets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlparse

from .options import Precision, load_checkpoint, one_line_errors

if TYPE_CHECKING:
    from ..camera_jointdetr import Camera
    from ..pipeline_jointdetr import JointDetrPipeline

PACKAGED_MODEL = "jointdetr (in the package)"


class Box(NamedTuple):
    """A person's box in pixels: left edge, top edge, width, height."""

    x: float
    y: float
    width: float
    height: float


class Format(str, Enum):
    """Kinds of file that poses can be written as."""

    JSON = "json"
    NPZ = "npz"
    CSV = "csv"
    BVH = "bvh"
    GLB = "glb"
    TRC = "trc"
    C3D = "c3d"
    ANGLES_CSV = "angles.csv"
    ANGLES_PARQUET = "angles.parquet"


class People(str, Enum):
    """How people are found where neither a box nor a detector is given."""

    SEARCH = "search"
    WHOLE = "whole"


class Smoothing(str, Enum):
    """How the joints of a film are smoothed over time."""

    NONE = "none"
    ONE_EURO = "one-euro"
    OFFLINE = "offline"


@dataclass(frozen=True)
class CameraOptions:
    """What is known of the camera that took all of the sources.

    Args:
        focal_px: Focal length in px, the optical axis through the picture's middle.
        field_of_view: Angle in degrees across the picture's longer side: a guess in place of a focal length.
        distortion: The lens, as `brown:K1,K2,P1,P2,...` or `fisheye:K1,K2,K3,K4`.
        file: JSON file with all of it, and the place of the camera in the world.
    """

    focal_px: float | None = None
    field_of_view: float | None = None
    distortion: str | None = None
    file: Path | None = None

    def for_picture(self, size: tuple[int, int]) -> "Camera":
        """Return the camera of a picture of `size` (width, height), a guess if nothing is known of it.

        Raises:
            ValueError: The options contradict each other, or describe no camera.
        """
        from ..camera_jointdetr import Camera, camera_of_picture

        ways = [name for name in ("focal_px", "field_of_view", "file") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"a camera must be described in one way, got {' and '.join(ways)}")
        if self.focal_px is not None:
            return Camera.from_focal_px(self.focal_px, size, distortion=self.distortion)
        known = {"camera": self.file, "distortion": self.distortion, "field_of_view": self.field_of_view}
        return camera_of_picture(size, known)


@dataclass(frozen=True)
class PredictOptions:
    """The options of `jointdetr predict`.

    Args:
        model: Folder or Hub repository of the checkpoint; None for the one in the package.
        precision: Numbers that the network computes with.
        output: Folder for everything that is written.
        boxes: A person's box each, the same in every picture and in a film's first frame; none to have people found.
        people: How they are found: by a search, or not at all, taking the whole picture to show one person.
        detector: Folder or Hub repository of an object-detection checkpoint that finds the people instead.
        detector_threshold: Boxes less probable than this are left out.
        threshold: Joints less probable than this count as not found.
        formats: Kinds of file to write the poses as.
        camera: What is known of the camera.
        smoothing: How the joints of a film are smoothed over time.
        overlay: Write a film with the skeletons drawn over it.
        step: Look at every `step`-th frame of a film.
        follow: Move a film's boxes along with their people.
        floor: Put the people upright on the floor in files of motion.
        split: Split of the data set to predict.
        batch_size: Crops that go through the network at once.
    """

    model: str | None = None
    precision: Precision = Precision.FLOAT32
    output: Path = Path("out")
    boxes: tuple[Box, ...] = ()
    people: People = People.SEARCH
    detector: str | None = None
    detector_threshold: float = 0.5
    threshold: float = 0.5
    formats: tuple[Format, ...] = (Format.JSON,)
    camera: CameraOptions = field(default_factory=CameraOptions)
    smoothing: Smoothing = Smoothing.OFFLINE
    overlay: bool = False
    step: int = 1
    follow: bool = True
    floor: bool = False
    split: str = "train"
    batch_size: int = 32

    @property
    def model_name(self) -> str:
        """What the written files call the checkpoint."""
        return self.model or PACKAGED_MODEL

    def load_estimator(self) -> "JointDetrPipeline":
        """Load the checkpoint and the detector as one pipeline; what cannot be loaded is one line and exit code 2."""
        from ..pipeline_jointdetr import JointDetrPipeline

        checkpoint = load_checkpoint(self.model, self.precision)
        with one_line_errors(str(self.detector)):
            return JointDetrPipeline(
                model=checkpoint.model,
                image_processor=checkpoint.processor,
                device=checkpoint.model.device,
                threshold=self.threshold,
                crops_per_pass=self.batch_size,
                people=self.people.value,
                detector=self.detector,
                detector_threshold=self.detector_threshold,
                return_tensors=True,
            )


def output_names(sources: Sequence[str]) -> list[str]:
    """File names without suffix, one for each source; the second `a` is `a-2`, so that none overwrites another."""
    names: list[str] = []
    for source in sources:
        stem = Path(urlparse(source).path if "://" in source else source).stem or "picture"
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names
