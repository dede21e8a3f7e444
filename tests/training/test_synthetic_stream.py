"""Synthetic people drawn as training goes on: the rows of files, each person once, and on from where a run stopped."""

import itertools
import json
import pickle
import shutil

import pytest
import torch
from pose_examples import STILL, make_row, make_rows
from safetensors.torch import load_file

from jointdetr import JointDetrImageProcessorPil
from jointdetr.data.examples import PoseDataset
from jointdetr.data.loading import load_pose_dataset
from jointdetr.data.mixing import RowMixture, Share
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.synthesis.rows import PersonRows, RowSettings, SynthesisSettings, synthesize
from jointdetr.training.augmentation import Augmentation
from jointdetr.training.augmented_examples import AugmentedExamples
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.stream import BlendedStream, PoseStream, StreamLoader
from jointdetr.training.synthetic_stream import SyntheticStream, training_people_seed
from jointdetr.training.train import build_engine, train

SMALL = RowSettings(seed=3, size=32)
PROCESSOR = JointDetrImageProcessorPil(size={"height": 32, "width": 32})
AUGMENTED = AugmentedExamples(PROCESSOR, HUMAN36M, Augmentation())


def places(examples) -> list[float]:
    """What tells people apart: where a joint is in the crop."""
    return [round(float(example["labels"]["joints_2d"][3, 0]), 5) for example in examples]


def first(stream, count: int) -> list[dict]:
    return list(itertools.islice(stream, count))


def assert_equal_examples(left: list[dict], right: list[dict]) -> None:
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one["pixel_values"], other["pixel_values"])
        assert one["labels"].keys() == other["labels"].keys()
        for name, value in other["labels"].items():
            torch.testing.assert_close(one["labels"][name], value, equal_nan=True, rtol=0, atol=0)


def test_examples_are_those_of_stored_people(tmp_path):
    folder = synthesize(SynthesisSettings(output=tmp_path / "people", count=5, seed=3, size=32, dense=True))
    plain = AugmentedExamples(PROCESSOR, HUMAN36M, STILL, dense_reduction=4)
    stored = PoseDataset(load_pose_dataset(folder), plain)
    drawn = first(SyntheticStream(RowSettings(seed=3, size=32, dense=True), plain, Share(), at_once=5), 5)
    assert {"part_map", "depth_map"} < drawn[0]["labels"].keys()
    assert_equal_examples(drawn, [stored[index] for index in range(5)])


@pytest.mark.parametrize("workers", [0, 1])
def test_readers_share_the_people_and_see_nobody_twice(workers):
    alone = places(first(SyntheticStream(SMALL, AUGMENTED, Share(), at_once=2), 8))
    assert len(set(alone)) == 8
    seen = []
    for process in range(2):
        stream = SyntheticStream(SMALL, AUGMENTED, Share(process, 2, workers), at_once=2)
        loader = StreamLoader(stream, batch_size=2, num_workers=workers)
        batches = itertools.islice(loader, 2)
        seen += places({"labels": labels} for batch in batches for labels in batch["labels"])
    assert sorted(seen) == sorted(alone)  # the same views of them, too


def blended(**share) -> BlendedStream:
    rows = make_rows([make_row(seed) for seed in range(6)]).remove_columns(["part_map", "depth_map"])
    mixture = RowMixture([rows.to_iterable_dataset(num_shards=2)], [1.0], seed=5, share=Share(**share))
    stored = PoseStream(mixture, AUGMENTED)
    return BlendedStream([stored, SyntheticStream(SMALL, AUGMENTED, Share(**share), at_once=4)], [1.0, 2.0], seed=1)


def drawn(**share) -> SyntheticStream:
    return SyntheticStream(SMALL, AUGMENTED, Share(**share), at_once=4)


@pytest.mark.parametrize(("make", "workers"), [(drawn, 0), (blended, 0), (blended, 1)])
def test_a_stream_goes_on_where_it_stopped(make, workers):
    def loader():
        return StreamLoader(make(workers=workers), batch_size=3, num_workers=workers)

    whole = [batch["pixel_values"] for batch in itertools.islice(loader(), 6)]
    begun = loader()
    taken = [batch["pixel_values"] for batch in itertools.islice(begun, 3)]
    state = json.loads(json.dumps(begun.state_dict()))
    resumed = loader()
    resumed.load_state_dict(state)
    rest = [batch["pixel_values"] for batch in itertools.islice(resumed, 3)]
    assert all(torch.equal(a, b) for a, b in zip(whole, taken + rest, strict=True))


def test_a_blend_draws_by_weight():
    stream = blended()
    examples = first(stream, 24)
    stored, synthetic = stream.position()["counts"]
    assert stored + synthetic == 24 and 11 <= synthetic <= 21  # 16 of 24, give or take two deviations
    assert stream.position()["parts"][1] == {"count": synthetic}
    assert len(set(places(examples))) == 24
    with pytest.raises(ValueError, match="one positive weight a part"):
        BlendedStream(stream.parts, [1.0, 0.0])


def test_training_and_test_people_differ_for_the_same_seed():
    (tested,) = PersonRows(RowSettings(seed=0, size=32)).render([0])
    (trained,) = PersonRows(RowSettings(seed=training_people_seed(0), size=32)).render([0])
    assert tested["joints_3d"] != trained["joints_3d"]
    assert training_people_seed(0) != training_people_seed(1)


def test_a_stream_can_be_sent_to_a_worker_that_was_not_forked():
    stream = SyntheticStream(RowSettings(device="cuda"), AUGMENTED, Share())
    assert stream.start_method == "spawn" and drawn().start_method is None
    loader = StreamLoader(stream, batch_size=2, num_workers=1)
    assert loader.multiprocessing_context.get_start_method() == "spawn"
    assert_equal_examples(first(pickle.loads(pickle.dumps(drawn())), 2), first(drawn(), 2))


def test_a_resumed_run_on_new_people_ends_as_an_uninterrupted_one(recipe_values, tmp_path):
    """Blended with stored rows, shuffled; the checkpoint comes in the middle of a group."""
    synthesis = {"size": 32, "at_once": 4, "weight": 2.0}
    train_data = {**recipe_values["train"], "synthesis": synthesis}
    values = {**recipe_values, "train": train_data, "evaluation": {}, "checkpoint_minutes": 0.0}
    values["schedule"] = {"max_steps": 4, "warmup_steps": 1}
    whole = load_file(train(build(Recipe, values)).folder / "model.safetensors")
    shutil.rmtree(tmp_path / "run" / "final")
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    resumed = load_file(train(build(Recipe, values), resume=True).folder / "model.safetensors")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_evaluation_needs_no_stored_training_data(recipe_values):
    data = {"sources": [], "synthesis": {"size": 32, "at_once": 2}, "workers": 0}
    engine = build_engine(build(Recipe, {**recipe_values, "train": data}))
    assert engine.evaluate()["eval_mean_pose/mpjpe"] > 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"train": {"synthesis": {"at_once": 0}}}, "`train.synthesis.at_once` must be at least 1, got 0"),
        ({"train": {"synthesis": {"size": 30}}}, "`size` must be a positive multiple of 4, got 30"),
        ({"train": {"synthesis": {}}, "skeleton": "coco"}, "have the joints of 'human36m', got 'coco'"),
        ({"train": {"synthesis": {}}, "schedule": {}}, "`schedule.max_steps` must say how long"),
    ],
)
def test_refuses_by_name(recipe_values, change, complaint):
    values = {**recipe_values, "evaluation": {}, **change}
    values["model"]["config"].pop("num_dense_parts")
    with pytest.raises(ValueError, match=complaint):
        build_engine(build(Recipe, values))
