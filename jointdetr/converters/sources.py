"""The converters by the name that `jointdetr convert` knows them by.

To add one, write a class as `jointdetr.converters.conversion` shows, and give `CONVERTERS` a function that makes it
of a `Source`. Functions import what they make, so that nobody waits for readers of files that he does not have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..formats.skeletons import find_skeleton
from .common.joint_names import read_names
from .common.mapped import MappedConverter
from .conversion import Converter

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
            `jointdetr.converters.common.joint_names.read_names`.
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
    converter = _with_options(CONVERTERS[name](source), source.options)
    if source.names is not None:
        if "names" not in {option.name for option in fields(converter)}:
            raise ValueError(f"`names` is for files that name their joints themselves, got {source.names} for {name}")
        converter = replace(converter, names=read_names(source.names))
    if source.skeleton is None:
        return converter
    return MappedConverter(converter, find_skeleton(source.skeleton))


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


def _human36m(source: Source) -> Converter:
    from .human36m.labels import human36m_converter

    return human36m_converter(source)


def _mpi_inf_3dhp(source: Source) -> Converter:
    from .mpi_inf_3dhp import mpi_inf_3dhp_converter

    return mpi_inf_3dhp_converter(source)


def _three_dpw(source: Source) -> Converter:
    from .three_dpw import ThreeDpw

    return ThreeDpw(source.path, source.images, source.step or ThreeDpw.step)


def _panoptic(source: Source) -> Converter:
    from .panoptic import Panoptic

    return Panoptic(source.path, source.step or Panoptic.step)


def _coco(source: Source) -> Converter:
    from .coco import CocoKeypoints

    return CocoKeypoints(source.path, source.images)


def _lsp(source: Source) -> Converter:
    from .lsp import LeedsSportsPose

    return LeedsSportsPose(source.path, source.images)


def _folder(source: Source) -> Converter:
    from .folder import Folder

    return Folder(source.path, source.images)


def _bvh(source: Source) -> Converter:
    from .motion_files import Bvh

    return Bvh(source.path, source.step or Bvh.step)


def _asf_amc(source: Source) -> Converter:
    from .motion_files import AsfAmc

    return AsfAmc(source.path, source.step or AsfAmc.step)


CONVERTERS: dict[str, Callable[[Source], Converter]] = {
    "human36m": _human36m,
    "mpi-inf-3dhp": _mpi_inf_3dhp,
    "3dpw": _three_dpw,
    "panoptic": _panoptic,
    "coco": _coco,
    "lsp": _lsp,
    "folder": _folder,
    "bvh": _bvh,
    "asf-amc": _asf_amc,
}
