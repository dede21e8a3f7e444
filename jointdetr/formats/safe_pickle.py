"""Pickles of arrays, read without running what is in them.

A pickle is a program: loading one from a stranger can run anything. Some data sets come as pickles all the same. This
reader admits what arrays, numbers, texts, bytes and containers are made of, and refuses the file at anything else.
Pickles of Python 2 are read, too; their texts become `str` or, where they are not Latin-1 texts, the same bytes as
characters.
"""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format


def _encode(text: str, encoding: str) -> bytes:
    """Turn characters into bytes, as protocols before 3 store bytes; other encodings run code of their own."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"expected bytes as latin1, got {encoding!r}")
    return text.encode("latin1")


_BUILTIN = (bytes, complex, frozenset, set)
# What pickles of numpy arrays, scalars and Python's containers name, under all modules where numpy has had it.
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encode,
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in _BUILTIN},
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = np.empty(0).__reduce__()[0]
    _ADMITTED[f"{_core}.multiarray", "scalar"] = np.float64(0).__reduce__()[0]
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = np.empty(0).__reduce_ex__(5)[0]


class RefusedPickleError(ValueError):
    """A pickle that asks for more than arrays, numbers, texts and containers."""


def load_pickle(path: str | Path) -> Any:
    """Read a pickle of arrays, numbers, texts, bytes and containers.

    Raises:
        RefusedPickleError: It names anything else, such as a function; nothing of it has run.
        ValueError: It is no pickle, or it is broken.
    """
    with open(path, "rb") as file:
        return _load(file, str(path))


def load_npz_objects(path: str | Path) -> dict[str, Any]:
    """Read all arrays of an npz file by their names, those of Python objects by the restricted reader.

    An array of objects without an axis becomes the object itself.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name.removesuffix(".npy"): name for name in archive.namelist()}
            return {name: _read_npy(archive.read(file), f"{path}, array {name}") for name, file in files.items()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: expected an npz file, got none: {error}") from error


class _RestrictedUnpickler(pickle.Unpickler):
    """Admits the names of `_ADMITTED` alone."""

    def find_class(self, module: str, name: str) -> Any:
        """Return an admitted name; called for every name that the pickle asks for."""
        if (module, name) not in _ADMITTED:
            raise RefusedPickleError(f"expected arrays and numbers only, got a pickle of {module}.{name}")
        return _ADMITTED[module, name]

    def persistent_load(self, key: Any) -> Any:
        """Refuse references to objects outside of the pickle."""
        raise RefusedPickleError(f"expected arrays and numbers only, got a reference to {key!r}")


def _load(file: BinaryIO, name: str) -> Any:
    try:
        return _RestrictedUnpickler(file, encoding="latin1").load()  # as numpy arrays of Python 2 need it
    except RefusedPickleError as error:
        raise RefusedPickleError(f"{name}: {error}") from error
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"{name}: expected a pickle of arrays, got a broken one: {error}") from error


def _read_npy(content: bytes, name: str) -> Any:
    stream = io.BytesIO(content)
    version = npy_format.read_magic(stream)
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if not dtype.hasobject:
        return npy_format.read_array(io.BytesIO(content), allow_pickle=False)
    value = _load(stream, name)
    if isinstance(value, np.ndarray) and shape == ():
        return value.item()
    return value
