"""Does JointDETR earn its place? Three other kinds of pose models with its backbone, data and budget.

`python -m benchmarks.accuracy.peers [--config RECIPE.yaml] [--seeds 3] [--only NAME] [section.key=value ...]`

Everything but the model and its head is as in `compare.py`: the recipe, the shared backbone, the
augmentation, the number of steps, the averaged weights and the metrics. Only the volumetric peer has three times the
learning rate: in one try of 100 steps on 640 people that took it from 205 to 178 mm, and the other two no more than
6 mm further. In that command's output folder its backbone, its JointDETR and its baseline are taken over; elsewhere
they are trained as well. Finished runs are not repeated. The folder gets `peers.json`, `peers.md` and `peers.png`.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import set_seed

from benchmarks.accuracy.compare import (
    SECTIONS,
    Comparison,
    Variant,
    draw_results,
    read_comparison,
    read_results,
    results_table,
    run_variant,
)
from benchmarks.accuracy.models import L1Peer, LikelihoodPeer, Peer, VolumetricPeer
from jointdetr import JointDetrConfig
from jointdetr.evaluation.result import ReportTable
from jointdetr.training.model import build_model, resolve_skeleton
from jointdetr.training.recipe import Recipe

PEERS: dict[str, type[Peer]] = {"l1": L1Peer, "rle": LikelihoodPeer, "volumetric": VolumetricPeer}
REFERENCES = ("baseline", "jointdetr")  # variants of `compare.py`
CONTESTANTS = (
    *(variant for variants in SECTIONS.values() for variant in variants if variant.name in REFERENCES),
    Variant("l1", "direct regression, L1"),
    Variant("rle", "direct regression, residual log-likelihood"),
    Variant("volumetric", "volumetric integral regression, learning rate 1.5e-3", ("optimizer.learning_rate=1.5e-3",)),
)
TITLE = "Other kinds of models at the same budget"
_SHARED = [
    *("id2label", "joint_parents", "root_joint", "joint_scale", "flip_pairs", "backbone_config", "freeze_batch_norm"),
    *("d_model", "init_std", "joint_weight", "joint_2d_weight"),
]


def build_peer(name: str, recipe: Recipe) -> Peer:
    """Make a peer whose backbone starts with the very weights that the recipe's JointDETR starts with.

    Args:
        name: one of `PEERS`.
        recipe: of a JointDETR; skeleton, backbone and loss weights are taken over.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in PEERS:
        raise ValueError(f"a peer must be one of {sorted(PEERS)}, got {name!r}")
    set_seed(recipe.seed)
    reference = build_model(recipe, resolve_skeleton(recipe))
    shared = {field: getattr(reference.config, field) for field in _SHARED}
    peer = PEERS[name](JointDetrConfig(**shared, query_alignment="fixed"))
    peer.backbone.load_state_dict(reference.model.backbone.state_dict())
    return peer


def compare_peers(comparison: Comparison, seeds: int, only: Sequence[str] = ()) -> ReportTable:
    """Run all contestants, seed by seed, so that an early stop leaves whole rounds, and write the results.

    Args:
        comparison: recipe, overrides and folder of all runs.
        seeds: runs of each contestant.
        only: names of contestants; all if empty.

    Raises:
        ValueError: A name in `only` is that of no contestant.
    """
    names = [variant.name for variant in CONTESTANTS]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise ValueError(f"contestants must be among {names}, got {unknown}")
    comparison.prepare()
    for seed in range(seeds):
        for variant in CONTESTANTS:
            if only and variant.name not in only:
                continue
            recipe = comparison.recipe(variant.name, seed, variant.overrides)
            model = build_peer(variant.name, recipe) if variant.name in PEERS else None
            run_variant(variant.name, recipe, model)
    return write_results(comparison.output)


def write_results(output: Path) -> ReportTable:
    """Write `peers.json`, `peers.md` and `peers.png` from the finished runs, and return the table."""
    results = read_results(output, [variant.name for variant in CONTESTANTS])
    table = results_table(TITLE, CONTESTANTS, results)
    (output / "peers.json").write_text(json.dumps(results, indent=2) + "\n")
    (output / "peers.md").write_text(table.markdown() + "\n")
    draw_results({TITLE: CONTESTANTS}, results, output / "peers.png")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    comparison, options = read_comparison("Compare JointDETR with other kinds of pose models.", arguments)
    print(compare_peers(comparison, options.seeds, options.only).markdown())


if __name__ == "__main__":
    main()
