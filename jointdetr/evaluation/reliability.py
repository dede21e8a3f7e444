"""Whether a model's confidence can be used: scores against hits, expected against measured errors, visibility.

A joint is a *hit* if it lies within 150 mm of the truth after both poses are moved to their root. Scores,
expected errors and visibility are those of the query that the assignment gave the joint, whatever its score, and so is
its position: neither the threshold nor the refinement network has touched them.

Shape vocabulary: `poses` (N), `joints` (J), `bins`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..postprocessing_jointdetr import AssembledPoses
from .metrics import joint_errors

HIT_MM = 150.0
EQUAL_PARTS = torch.arange(1, 10) / 10  # edges between ten equal parts of [0, 1]


@dataclass(frozen=True)
class Curve:
    """What was promised against what was found, in bins of the promise; empty bins are left out."""

    promised: list[float]  # means of every bin
    found: list[float]  # the same
    counts: list[int]  # joints in every bin

    @property
    def gap(self) -> float:
        """Mean distance of finding and promise over all joints; for probabilities the expected calibration error."""
        total = sum(self.counts)
        triples = zip(self.promised, self.found, self.counts, strict=True)
        return sum(count * abs(found - promised) for promised, found, count in triples) / total if total else torch.nan


@dataclass(frozen=True)
class Reliability:
    """How far a model's own words about its joints are true."""

    score: Curve  # probability of being the joint, against the fraction of hits, in ten bins of equal width
    sigma: Curve | None  # expected against mean error in mm, in ten bins of equally many joints
    visible: Curve | None  # probability of being visible, against the fraction that is
    # `score_ece` and, where the model has them, `sigma_gap` mm, `sigma_rank_correlation` (Spearman, with the error),
    # `visible_ece` and `visible_accuracy` at one half
    metrics: dict[str, float]

    def save_figure(self, path: str | Path) -> None:
        """Draw the curves beside the diagonal; the suffix says the kind of picture, as `.png` or `.svg`."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        panels = [("score", self.score, f"fraction within {HIT_MM:g} mm", 1.0)]
        if self.visible is not None:
            panels.append(("probability of being visible", self.visible, "fraction visible", 1.0))
        if self.sigma is not None:
            limit = 1.05 * max(self.sigma.promised + self.sigma.found, default=1.0)
            panels.append(("expected error, mm", self.sigma, "mean error, mm", limit))
        figure = Figure(figsize=(4.6 * len(panels), 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            promise, curve, finding, limit = panel
            total = max(sum(curve.counts), 1)
            axes.plot([0, limit], [0, limit], color="#9a9a9a", linewidth=1, linestyle="--")
            axes.plot(curve.promised, curve.found, color="#1f77d0", linewidth=1.5)
            sizes = [12 + 300 * count / total for count in curve.counts]  # points as large as their bins are full
            axes.scatter(curve.promised, curve.found, s=sizes, color="#1f77d0")
            axes.set(xlim=(0, limit), ylim=(0, limit), xlabel=promise, ylabel=finding, aspect="equal")
            axes.set_title(f"mean gap {curve.gap:.3g} over {total} joints", fontsize=10)
            axes.grid(color="#e6e6e6")
        figure.savefig(path)


def measure_reliability(
    poses: AssembledPoses, target: torch.Tensor, valid: torch.Tensor, visible: torch.Tensor, root: int
) -> Reliability:
    """Compare what a model says of its joints with the truth.

    `poses` are assembled with threshold 0 and without a refinement network; `target` is `(poses, joints, 3)` mm,
    root-relative, `valid` `(poses, joints)` bool where it is known; `root` is the root joint's index.
    """
    from scipy.stats import rankdata

    predicted = poses.joints - poses.joints[:, root : root + 1]
    errors = joint_errors(predicted, target)[valid]  # (known joints,)
    known = errors.isfinite()
    score = _curve(poses.scores[valid][known], (errors[known] < HIT_MM).float(), EQUAL_PARTS)
    metrics = {"score_ece": score.gap}
    sigma_curve = visible_curve = None
    if poses.sigmas is not None:
        sigmas = poses.sigmas[valid]
        both = known & sigmas.isfinite()
        sigmas, of_sigmas = sigmas[both], errors[both]
        # between bins of equally many joints
        edges = np.quantile(sigmas.numpy(), EQUAL_PARTS.numpy()) if len(sigmas) else []
        sigma_curve = _curve(sigmas, of_sigmas, torch.tensor(edges))
        metrics["sigma_gap"] = sigma_curve.gap
        ranks = torch.from_numpy(np.stack([rankdata(sigmas), rankdata(of_sigmas)]))
        metrics["sigma_rank_correlation"] = torch.corrcoef(ranks)[0, 1].item() if len(sigmas) > 1 else torch.nan
    if poses.visible is not None:
        told = poses.visible.isfinite()
        visible_curve = _curve(poses.visible[told], visible[told].float(), EQUAL_PARTS)
        metrics["visible_ece"] = visible_curve.gap
        metrics["visible_accuracy"] = ((poses.visible[told] > 0.5) == visible[told]).float().mean().item()
    return Reliability(score, sigma_curve, visible_curve, metrics)


def _curve(promised: torch.Tensor, found: torch.Tensor, inner_edges: torch.Tensor) -> Curve:
    """Mean promise and mean finding in the bins between `inner_edges`."""
    bins = torch.bucketize(promised, inner_edges, right=True)
    chosen = [bins == index for index in bins.unique().tolist()]
    return Curve(
        [promised[part].mean().item() for part in chosen],
        [found[part].mean().item() for part in chosen],
        [int(part.sum()) for part in chosen],
    )
