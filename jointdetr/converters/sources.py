"""The converters by the name that `jointdetr convert` knows them by.

To add one, write a class as docs/data.md shows, and name it in `CONVERTERS`. It is imported when it is asked for, so
that nobody waits for readers of files that he does not have.
"""

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from .conversion import Converter

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


def make_converter(name: str, source: Path, **options: Any) -> Converter:
    """Make the converter of a name.

    Args:
        name: one of `CONVERTERS`.
        source: the folder or file with the labels.
        options: what else the converter takes; texts are read as it wants them.

    Raises:
        ValueError: There is none of this name, it has no such option, or the source is not as it expects.
    """
    if name not in CONVERTERS:
        raise ValueError(f"there are converters for {', '.join(CONVERTERS)}; got {name!r}")
    if not source.exists():
        raise ValueError(f"{source} does not exist")
    module, _, maker = CONVERTERS[name].partition(".")
    make = getattr(import_module(f".{module}", __package__), maker)
    kinds = {option.name: option.annotation for option in signature(make).parameters.values()}
    taken = [option for option in kinds if option != "source"]
    if unknown := sorted(set(options) - set(taken)):
        raise ValueError(f"options of {name} are {', '.join(taken)}; got {', '.join(unknown)}")
    return make(source, **{option: _read(option, value, kinds[option]) for option, value in options.items()})


def _read(name: str, value: Any, kind: Any) -> Any:
    """Read the text of an option: one of several words, a whole number, a path, or words with commas between them."""
    if not isinstance(value, str):
        return value
    kinds = [kind, *get_args(kind)]  # `int | None` is an `int`, too
    choices = [choice for part in kinds if get_origin(part) is Literal for choice in get_args(part)]
    if choices and value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}")
    if get_origin(kind) is tuple:
        return tuple(value.split(","))
    try:
        return int(value) if int in kinds else Path(value) if Path in kinds else value
    except ValueError as error:
        raise ValueError(f"`{name}` must be a whole number, got {value!r}") from error
