"""The converters by the name that `jointdetr convert` knows them by.

To add one, write a class as `jointdetr.converters.conversion` shows, and name it in `CONVERTERS`. It is imported when
it is asked for, so that nobody waits for readers of files that he does not have.

Any converter can be had with the joints of another skeleton, so that data sets of different skeletons are trained on
together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..data.skeleton_mapping import map_row, mapping_weights
from ..formats.skeletons import find_skeleton
from ..skeleton_jointdetr import Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped
from .joint_names import read_names

CONVERTERS = {
    "human36m": "human36m.human36m_converter",
    "mpi-inf-3dhp": "mpi_inf_3dhp.mpi_inf_3dhp_converter",
    "3dpw": "three_dpw.ThreeDpw",
    "panoptic": "panoptic.Panoptic",
    "coco": "coco.CocoKeypoints",
    "lsp": "lsp.LeedsSportsPose",
    "folder": "folder.Folder",
    "bvh": "motion_files.Bvh",
    "asf-amc": "motion_files.AsfAmc",
}
"""Where the maker of each converter is: a class, or a function that looks which files there are."""

NAMED_OPTIONS = {"source", "annotations", "images", "step", "labels", "names"}
"""Fields of converters that a `Source` has by name."""


@dataclass(frozen=True)
class Source:
    """Where a data set lies, and how much of it is wanted.

    Args:
        path: the folder or file with the labels.
        images: the folder that names of pictures are relative to; None where `path` says it.
        step: take every `step`-th frame of a recording; None takes as many as the data set's users do.
        labels: which of several kinds of labels to take, where a data set has them.
        skeleton: name of a skeleton, or a `skeleton.json`, that the joints are mapped to; None keeps the data set's.
        names: a JSON file that maps joints' names of the source to this package's, see
            `jointdetr.converters.joint_names.read_names`.
        options: what else this converter has as fields, by name, as text: `{"unit": "cm"}` for BVH files.

    Raises:
        ValueError: `path` or `images` does not exist, or `step` is below 1.
    """

    path: Path
    images: Path | None = None
    step: int | None = None
    labels: str | None = None
    skeleton: str | None = None
    names: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        if not self.path.exists():
            raise ValueError(f"{self.path} does not exist")
        if self.images is not None and not self.images.is_dir():
            raise ValueError(f"`images` must be a folder, got {self.images}")
        if self.step is not None and self.step < 1:
            raise ValueError(f"`step` must be at least 1, got {self.step}")


def make_converter(name: str, source: Source) -> Converter:
    """Make the converter of a name.

    Raises:
        ValueError: There is none of this name, it has no such option, or the source is not as it expects.
    """
    if name not in CONVERTERS:
        raise ValueError(f"there are converters for {', '.join(CONVERTERS)}; got {name!r}")
    module, _, maker = CONVERTERS[name].partition(".")
    make = getattr(import_module(f".{module}", __package__), maker)
    given = {"source": source.path, "images": source.images, "step": source.step, "labels": source.labels}
    taken = {key: value for key, value in given.items() if key in signature(make).parameters and value is not None}
    converter = _with_options(make(**taken), source.options)
    if source.names is not None:
        if "names" not in {option.name for option in fields(converter)}:
            raise ValueError(f"`names` is for files that name their joints themselves, got {source.names} for {name}")
        converter = replace(converter, names=read_names(source.names))
    if source.skeleton is None:
        return converter
    return MappedConverter(converter, find_skeleton(source.skeleton))


@dataclass(frozen=True)
class MappedConverter(Converter):
    """Rows of a converter, mapped by `map_skeleton`; joints that cannot be had are not valid.

    Args:
        original: the converter.
        target: the skeleton that is asked for.

    Raises:
        ValueError: The root of the target cannot be had.
    """

    original: Converter
    target: Skeleton

    def __post_init__(self) -> None:
        """Refuse a skeleton to which nothing could be relative."""
        _, possible = mapping_weights(self.original.skeleton, self.target)
        if not possible[self.target.root]:
            root = self.target.joints[self.target.root]
            raise ValueError(
                f"skeleton {self.original.skeleton.name!r} cannot be mapped to {self.target.name!r}: nothing gives "
                f"its root {root!r}"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Send the original to another process without what it has cached."""
        return {"original": replace(self.original), "target": self.target}

    @property
    def skeleton(self) -> Skeleton:
        """The target."""
        return self.target

    @property
    def skeletons_only(self) -> bool:
        """As the original."""
        return self.original.skeletons_only

    @property
    def shows_nobody(self) -> bool:
        """As the original."""
        return self.original.shows_nobody

    def recordings(self) -> list[Recording]:
        """As the original."""
        return self.original.recordings()

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """Rows of the original with other joints."""
        for labels in self.original.rows(recording):
            yield labels if isinstance(labels, Skipped) else map_row(labels, self.original.skeleton, self.target)

    def remarks(self, recording: Recording) -> list[str]:
        """As the original."""
        return self.original.remarks(recording)


def _with_options(converter: Converter, options: Mapping[str, str]) -> Converter:
    """Set the fields of a converter that a `Source` does not name."""
    names = sorted({option.name for option in fields(converter)} - NAMED_OPTIONS)
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise ValueError(f"options of this data set are {', '.join(names) or 'none'}; got {', '.join(unknown)}")
    hints = get_type_hints(type(converter))
    return replace(converter, **{name: _parse(name, text, hints[name]) for name, text in options.items()})


def _parse(name: str, text: str, hint: Any) -> Any:
    """Read the value of a field: one of several words, a whole number, or words with commas between them."""
    choices = [choice for part in (hint, *get_args(hint)) if get_origin(part) is Literal for choice in get_args(part)]
    if choices and text not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {text!r}")
    if hint is int:
        try:
            return int(text)
        except ValueError as error:
            raise ValueError(f"`{name}` must be a whole number, got {text!r}") from error
    return tuple(text.split(",")) if get_origin(hint) is tuple else text
