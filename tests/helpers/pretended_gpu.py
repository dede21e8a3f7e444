"""A GPU that is not there: its tensors hold their numbers on the CPU, and it counts what a real one would wait for.

What a GPU would refuse is refused: mixing its tensors with those of the CPU. What a process would wait for is counted:
copies from and to the CPU, numbers that Python reads, and shapes that depend on numbers. Importing this makes the
device known to PyTorch for good, so that it belongs into a process of its own. There are no gradients.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

GPU = torch.device("privateuseone", 0)
READ_NUMBERS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "repeat_interleave.Tensor", "equal.")
TAKE_BOTH = ("copy_", "_to_copy", "index.", "index_put")  # copies, and indices from the CPU

_setup_privateuseone_for_python_backend()


class GpuTensor(torch.Tensor):
    """Says that it is on the GPU; `held` has its numbers on the CPU."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "GpuTensor":
        """Make one of the same shape and strides."""
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, **layout, dtype=held.dtype, device=GPU)

    def __init__(self, held: torch.Tensor) -> None:
        """Keep the numbers."""
        self.held = held

    def tolist(self) -> Any:
        """Read the numbers, which PyTorch would do without asking the mode."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Refuse to be used where nothing is counted."""
        raise RuntimeError(f"{function} was called outside of `pretended_gpu`")


class Call(NamedTuple):
    """One operation: its name, its arguments, the tensors among them, and where these and the result are."""

    name: str
    args: tuple
    tensors: list[torch.Tensor]
    from_gpu: bool
    to_gpu: bool

    @property
    def mixes(self) -> bool:
        """Whether arrays of the CPU meet tensors of the GPU."""
        return self.from_gpu and any(not isinstance(each, GpuTensor) and each.dim() for each in self.tensors)

    @property
    def moves(self) -> bool:
        """Whether numbers are brought from one to the other."""
        to_other = self.name.startswith("_to_copy") and self.to_gpu != self.from_gpu
        return to_other or self.name.startswith("copy_") and self.mixes

    @property
    def reads_numbers(self) -> bool:
        """Whether it cannot be begun, or the shape of its result be known, without numbers of the GPU."""
        indices = tree_leaves(self.args[1]) if self.name.startswith(("index.", "index_put")) else []
        by_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        return self.from_gpu and (by_mask or self.name.startswith(READ_NUMBERS))


class PretendedGpu(TorchDispatchMode):
    """Computes on the CPU what the GPU would compute.

    Attributes:
        waits: how often each operation would have waited for the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operation."""
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        from_gpu = any(isinstance(tensor, GpuTensor) for tensor in tensors)
        asked = kwargs.get("device")
        to_gpu = from_gpu if asked is None else torch.device(asked) == GPU
        call = Call(str(function).removeprefix("aten."), args, tensors, from_gpu, to_gpu)
        if call.mixes and not call.name.startswith(TAKE_BOTH):
            raise RuntimeError(f"{call.name} was given tensors of the CPU and of the GPU")
        if call.moves and not (to_gpu and kwargs.get("non_blocking")):
            self.waits["to the GPU" if to_gpu else "from the GPU"] += 1
        if call.reads_numbers:
            self.waits[call.name] += 1
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        held_args, held_kwargs = tree_map_only(GpuTensor, lambda tensor: tensor.held, (args, kwargs))
        with _disable_current_modes():
            result = function(*held_args, **held_kwargs)
            return _on_gpu(result, tensors) if to_gpu else result


def _on_gpu(result: Any, tensors: list[torch.Tensor]) -> Any:
    """Give results to the GPU; an operation in place returns the very tensor that it was given."""
    own = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, GpuTensor)}
    return tree_map_only(
        torch.Tensor, lambda tensor: own[id(tensor)] if id(tensor) in own else GpuTensor(tensor), result
    )


@contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """Let tensors be made on and moved to `GPU` for a while."""
    plain = torch.tensor

    def tensor(data: Any, *, device: torch.device | None = None, **options: Any) -> torch.Tensor:
        """Make it on the CPU first, as PyTorch does without telling the mode."""
        made = plain(data, **options)
        return made if device is None else made.to(device)

    with mock.patch.object(torch, "tensor", tensor), PretendedGpu() as gpu:
        yield gpu
