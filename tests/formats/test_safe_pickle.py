"""Pickles of arrays are read, all others refused before anything of them runs."""

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from jointdetr.formats.safe_pickle import RefusedPickleError, load_npz_objects, load_pickle

CONTENT = {
    "sequence": "downtown_walking",
    "genders": ["m", "f"],
    "poses": [np.arange(6.0).reshape(2, 3), np.zeros((2, 3), np.float32)],
    "transposed": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "mask": np.array([True, False]),
    "names": np.array(["a", "bc"]),
    "scalar": np.float64(2.5),
    "nothing": None,
    "pair": (1, 2.0),
    "objects": np.array([{"x": 1}, None], dtype=object),
    "structure": np.zeros(2, dtype=[("a", "<i4"), ("b", "<f8")]),
    "bytes": b"\x00\xff",
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_texts_and_numbers_are_read(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(CONTENT, protocol))
    read = load_pickle(tmp_path / "a.pkl")
    assert read.keys() == CONTENT.keys()
    for name, value in CONTENT.items():
        np.testing.assert_equal(read[name], value)


def test_pickles_of_python_2_and_old_numpy_are_read(tmp_path: Path) -> None:
    # What Python 2 wrote for {'a': numpy.array([1., 2.])}: names of numpy's old modules, bytes as texts.
    pickled = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04"
        b"U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f8q\nK\x00K\x01\x87q\x0bRq\x0c"
        b"(K\x03U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U\x10"
        + np.array([1.0, 2.0]).tobytes()
        + b"q\x0ftq\x10bs."
    )
    (tmp_path / "a.pkl").write_bytes(pickled)
    np.testing.assert_array_equal(load_pickle(tmp_path / "a.pkl")["a"], [1.0, 2.0])


class Malicious:
    """Runs a command where it is unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


@pytest.mark.parametrize("hidden", [False, True])
def test_a_pickle_that_would_run_something_is_refused_and_does_not(tmp_path: Path, hidden: bool) -> None:
    touched = tmp_path / "touched"
    for number, attack in enumerate(
        [
            Malicious(os.system, f"touch {touched}"),
            Malicious(eval, f"open({str(touched)!r}, 'w')"),
            Malicious(getattr, "", "format"),
            Malicious(np.fromfile, str(touched)),
            collections.Counter("ab"),
        ]
    ):
        path = tmp_path / f"{number}.pkl"
        value = {"poses": [np.zeros(3), np.array([attack, None], dtype=object)]} if hidden else attack
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(
            RefusedPickleError, match=f"{number}.pkl: expected arrays and numbers only, got a pickle of"
        ):
            load_pickle(path)
    assert not touched.exists()


def test_npz_files_of_objects_are_read_and_malicious_ones_refused(tmp_path: Path) -> None:
    positions = {"S1": {"Walking 1": np.arange(12.0).reshape(2, 2, 3)}}
    np.savez_compressed(tmp_path / "a.npz", positions_3d=positions, plain=np.arange(3))
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(tmp_path / "a.npz", allow_pickle=False)["positions_3d"]
    read = load_npz_objects(tmp_path / "a.npz")
    np.testing.assert_array_equal(read["positions_3d"]["S1"]["Walking 1"], positions["S1"]["Walking 1"])
    np.testing.assert_array_equal(read["plain"], [0, 1, 2])
    np.savez(tmp_path / "b.npz", x=np.array([Malicious(os.system, f"touch {tmp_path / 'touched'}")], dtype=object))
    with pytest.raises(RefusedPickleError, match="b.npz, array x: .*posix.system"):
        load_npz_objects(tmp_path / "b.npz")
    assert not (tmp_path / "touched").exists()


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(CONTENT)[:100])
    with pytest.raises(ValueError, match="a.pkl: expected a pickle of arrays, got a broken one"):
        load_pickle(tmp_path / "a.pkl")
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="a.npz: expected an npz file, got none"):
        load_npz_objects(tmp_path / "a.npz")
