"""Which query is which joint: the optimal assignment, by the loss's costs in training, by class alone at inference.

Shape vocabulary: batch, queries, joints (joint types J of the skeleton).
"""

from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment

# stands for a cost that is not finite; far above any real one, far below where float32 sums lose the real ones
WORST_COST = 1e6

Assignment = Literal["hungarian", "argmax"]


def assign(costs: torch.Tensor) -> torch.Tensor:
    """Solve the assignment of queries to joints for any number of cost matrices, in one transfer to the CPU and back.

    Args:
        costs (`torch.Tensor` of shape `(..., queries, joints)`): What is not finite counts as the worst cost.

    Returns:
        `torch.Tensor` of shape `(..., joints)`: The query of every joint, int64; no query serves two joints.
    """
    finite = torch.nan_to_num(costs.float(), nan=WORST_COST, posinf=WORST_COST, neginf=WORST_COST)
    matrices = finite.clamp(max=WORST_COST).flatten(0, -3).transpose(1, 2).cpu().numpy()  # (matrices, joints, queries)
    if not len(matrices):
        return torch.empty(*costs.shape[:-2], costs.shape[-1], dtype=torch.long, device=costs.device)
    queries = torch.stack([torch.from_numpy(linear_sum_assignment(matrix)[1]) for matrix in matrices])
    return queries.reshape(*costs.shape[:-2], costs.shape[-1]).to(costs.device, non_blocking=True)


def choose_queries(probabilities: torch.Tensor, assignment: Assignment) -> torch.Tensor:
    """Return the query of every joint (batch, joints) from class probabilities (batch, queries, joints) alone.

    Raises:
        ValueError: If the assignment is unknown.
    """
    if assignment == "hungarian":
        return assign(-probabilities)
    if assignment == "argmax":
        return probabilities.argmax(dim=1)
    raise ValueError(f'`assignment` must be "hungarian" or "argmax", got {assignment!r}.')


__all__ = ["Assignment", "assign", "choose_queries"]
