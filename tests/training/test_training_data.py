"""Streams: the rows of the disk or new people, each once, by weight, and on from where a run stopped."""

import itertools
import json
import pickle
import shutil
from collections import Counter

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pose_examples import STILL, make_row, make_rows
from processes import run_forked
from safetensors.torch import load_file

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessorPil
from jointdetr.data.examples import PoseDataset, PoseExamples
from jointdetr.data.loading import load_pose_dataset
from jointdetr.data.mixing import RowMixture, RowReader, Share, prepare_source
from jointdetr.skeleton_jointdetr import COCO, HUMAN36M
from jointdetr.synthesis.rows import PersonRows, RowSettings, SynthesisSettings, person_seed, synthesize
from jointdetr.training.augmentation import Augmentation, AugmentedExamples
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.train import TrainingRun, train
from jointdetr.training.training_data import (
    TRAINING_PEOPLE,
    BlendedStream,
    PoseStream,
    StreamLoader,
    SyntheticStream,
)

PROCESSOR = JointDetrImageProcessorPil(size={"height": 32, "width": 32})
PLAIN = PoseExamples(PROCESSOR, HUMAN36M)
SMALL = RowSettings(seed=3, size=32)
AUGMENTED = AugmentedExamples(PROCESSOR, HUMAN36M, Augmentation())


@pytest.fixture(autouse=True)
def hasty_datasets(monkeypatch):
    """At the end of every pass `datasets` waits five seconds for threads that read Parquet."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder of four Parquet files of five rows each, of two row groups, whose frames are 0 to 19."""
    folder = tmp_path_factory.mktemp("shards")
    rows = make_rows([make_row(seed) for seed in range(20)])
    for number in range(4):
        part = rows.select(range(5 * number, 5 * number + 5))
        part.to_parquet(folder / f"train-{number:05d}-of-00004.parquet", batch_size=3)
    return folder


def stream(folder, **mixture):
    return PoseStream(RowMixture([load_pose_dataset(folder, streaming=True)], [1.0], **mixture), PLAIN, passes=1)


def roots(examples) -> list[float]:
    """What tells rows apart in their examples: a joint's place in the crop, which also has to be the right row's."""
    return [round(float(example["labels"]["joints_2d"][3, 0]), 5) for example in examples]


def test_streams_give_the_examples_of_the_rows_on_the_disk(shards):
    streamed = list(stream(shards))
    stored = PoseDataset(load_pose_dataset(shards), PLAIN)
    assert len(streamed) == len(stored) == 20
    for left, right in zip(streamed, stored, strict=True):
        assert torch.equal(left["pixel_values"], right["pixel_values"])
        for name, value in right["labels"].items():
            torch.testing.assert_close(left["labels"][name], value, equal_nan=True, rtol=0, atol=0)


def test_streamed_and_stored_rows_are_equal(shards):
    streamed = list(load_pose_dataset(shards, streaming=True))
    stored = load_pose_dataset(shards)
    assert len(streamed) == len(stored)
    for left, right in zip(streamed, stored, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            if name != "image":
                assert np.array_equal(left[name], right[name]), name
        assert np.array_equal(np.asarray(left["image"]), np.asarray(right["image"]))


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("buffer", [0, 8])
def test_processes_share_every_row_without_overlap(shards, processes, buffer):
    """Four files: two processes have two each, three have unlike many, and seven have row groups or single rows."""
    parts = [roots(stream(shards, buffer=buffer, share=Share(process, processes))) for process in range(processes)]
    assert all(parts)
    assert sorted(itertools.chain(*parts)) == sorted(roots(stream(shards)))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_share_every_row_of_their_process(shards, workers):
    seen = []
    for process in range(2):
        part = stream(shards, buffer=8, share=Share(process, 2, workers))
        loader = StreamLoader(part, batch_size=2, num_workers=workers)
        seen += [roots({"labels": labels} for labels in batch["labels"]) for batch in loader]
    assert sorted(itertools.chain(*seen)) == sorted(roots(stream(shards)))


def test_every_pass_has_its_own_order(shards):
    mixture = RowMixture([load_pose_dataset(shards, streaming=True)], [1.0], seed=3, buffer=20)
    orders = [[row["frame"] for row in RowReader(mixture, passage)] for passage in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == list(range(20))


def test_sources_are_drawn_by_weight(tmp_path):
    sources = []
    for subject, seed in (("often", 0), ("seldom", 1)):
        rows = make_rows([make_row(seed) | {"subject": subject}] * 60)
        sources.append(rows.to_iterable_dataset(num_shards=4))
    mixture = RowMixture(sources, [3.0, 1.0], seed=1, buffer=4)
    count = Counter(row["subject"] for row in itertools.islice(RowReader(mixture, 0), 200))
    assert count["often"] / count.total() == pytest.approx(0.75, abs=0.08)
    with pytest.raises(ValueError, match="weights of a mixture must be positive"):
        RowMixture(sources, [1.0, 0.0])


@pytest.mark.parametrize(("sources", "workers", "buffer"), [(2, 0, 0), (2, 0, 3), (2, 2, 0), (1, 2, 3)])
def test_a_stream_goes_on_where_it_stopped(shards, sources, workers, buffer):
    """After any number of batches, also when it is another worker's turn, and twice in a row."""

    def loader(state=None):
        rows = [load_pose_dataset(shards, streaming=True) for _ in range(sources)]
        mixture = RowMixture(rows, [2.0, 1.0][:sources], seed=5, buffer=buffer, share=Share(workers=workers))
        examples = AugmentedExamples(PROCESSOR, HUMAN36M, Augmentation())
        loader = StreamLoader(PoseStream(mixture, examples), batch_size=3, num_workers=workers)
        if state is not None:
            loader.load_state_dict(json.loads(json.dumps(state)))
        return loader

    def take(loader, count):
        return [batch["pixel_values"] for batch in itertools.islice(loader, count)]

    whole = take(loader(), 24)  # several passes of each worker
    taken, state = [], None
    for count in (7, 6, 11):
        part = loader(state)
        taken += take(part, count)
        state = part.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(whole, taken, strict=True))


def test_a_position_of_other_workers_is_refused(shards):
    state = StreamLoader(stream(shards), batch_size=2).state_dict()
    with pytest.raises(ValueError, match="processes and workers it had"):
        StreamLoader(stream(shards), batch_size=2, num_workers=1).load_state_dict(state)


def coco_rows():
    """Rows of COCO's key points: 2D alone."""
    rows = []
    for seed in range(6):
        row = make_row(seed) | {"skeleton": "coco", "joints_3d_valid": np.zeros(17, bool)}
        row["joints_3d"] = np.full((17, 3), np.nan)
        rows.append(row)
    return make_rows(rows)


def test_another_skeletons_rows_are_mapped_where_that_is_asked():
    rows = coco_rows()
    with pytest.raises(ValueError, match="skeleton must be 'human36m', got 'coco'"):
        prepare_source(rows.to_iterable_dataset(), HUMAN36M, mapped=False)
    mapped = next(iter(prepare_source(rows.to_iterable_dataset(), HUMAN36M, mapped=True)))
    points, source = np.array(mapped["joints_2d"]), np.array(rows[0]["joints_2d"])
    left, right = (COCO.joints.index(f"{side}_hip") for side in ("left", "right"))
    np.testing.assert_allclose(points[HUMAN36M.joints.index("left_hip")], source[left], atol=1e-4)
    np.testing.assert_allclose(points[HUMAN36M.root], source[[left, right]].mean(0), atol=1e-4)
    head = HUMAN36M.joints.index("head")
    assert not mapped["joints_2d_valid"][head] and not mapped["visible"][head] and np.isnan(points[head]).all()
    assert not any(mapped["joints_3d_valid"])
    visible = rows[0]["visible"]
    assert mapped["visible"][HUMAN36M.root] == (visible[left] and visible[right])


def streaming_recipe(values, tmp_path, shards, **train):
    coco_rows().save_to_disk(tmp_path / "coco")
    sources = [
        {"path": str(shards), "weight": 2.0},
        {"path": str(tmp_path / "coco"), "map_skeleton": True, "weight": 1.0},
    ]
    changed = {"sources": sources, "streaming": True, "shuffle_buffer": 4, "workers": 0}
    return {**values, "train": {**changed, **train}, "evaluation": {**values["evaluation"], "every_steps": 4}}


def test_rows_with_2d_labels_alone_take_part_in_training(recipe_values, shards, tmp_path, capsys):
    """Mixed supervision from two streams; interrupted, it goes on from the position in the checkpoint."""
    values = streaming_recipe(recipe_values, tmp_path, shards)
    values["checkpoint_minutes"] = 0.0
    result = train(build(Recipe, values))
    assert np.isfinite(result.metrics["eval_mpjpe"])
    assert capsys.readouterr().out.count("  predictor") == 2  # at step 4 and at the end
    checkpoint = sorted((tmp_path / "run").glob("checkpoint-*"))[-1]
    saved = json.loads((checkpoint / "stream_position-0.json").read_text())
    assert saved["positions"]["0"]["count"] == 6 * 2 and saved["processes"] == 1
    values["schedule"] = {**values["schedule"], "max_steps": 8}
    train(build(Recipe, values), resume=True)
    checkpoint = tmp_path / "run" / "checkpoint-8"
    assert json.loads((checkpoint / "stream_position-0.json").read_text())["positions"]["0"]["count"] == 8 * 2


def test_rows_of_2d_labels_alone_move_the_model(recipe_values, tmp_path):
    (tmp_path / "none").mkdir()
    coco_rows().to_parquet(tmp_path / "none" / "train.parquet")
    values = streaming_recipe(recipe_values, tmp_path, tmp_path / "none")
    values["train"]["sources"] = values["train"]["sources"][1:]
    values |= {"evaluation": {}, "average_decay": 0.0}
    trained = train(build(Recipe, values)).model
    values["schedule"] = {"max_steps": 1, "warmup_steps": 0}
    values["optimizer"] = {"learning_rate": 0.0}
    untrained = train(build(Recipe, {**values, "output": str(tmp_path / "still")})).model
    moved = {
        name
        for (name, before), after in zip(untrained.named_parameters(), trained.parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert any("backbone" in name for name in moved) and any("class" in name for name in moved)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"train.streaming": False}, "needs `train.streaming` for its `weight`"),
        ({"schedule.max_steps": None}, "`schedule.max_steps` must say how long"),
    ],
)
def test_recipes_that_mix_in_two_ways_are_refused(recipe_values, shards, tmp_path, change, complaint):
    values = streaming_recipe(recipe_values, tmp_path, shards)
    for key, value in change.items():
        section, name = key.split(".")
        values[section] = {**values[section], name: value}
    with pytest.raises(ValueError, match=complaint):
        train(build(Recipe, values))


def test_repeat_is_refused_with_streaming(recipe_values, shards, tmp_path):
    values = streaming_recipe(recipe_values, tmp_path, shards)
    values["train"]["sources"][0]["repeat"] = 2
    with pytest.raises(ValueError, match="must be 1 with streaming: give a `weight`"):
        train(build(Recipe, values))


def test_a_bad_row_is_named(tmp_path):
    row = make_row(0)
    row["joints_3d"][4] = np.nan
    bad = make_rows([make_row(1), row | {"subject": "S7", "frame": 12}])
    examples = PoseStream(RowMixture([bad.to_iterable_dataset()], [1.0]), PLAIN, passes=1)
    with pytest.raises(ValueError, match="subject 'S7', .*frame 12: `joints_3d` must be finite.*left_hip"):
        list(examples)
    with pytest.raises(ValueError, match="row 1: subject 'S7'"):
        PoseDataset(bad, PLAIN)[1]
    bad.to_parquet(tmp_path / "train.parquet")
    pq.write_table(pq.read_table(tmp_path / "train.parquet").slice(0, 0), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="train.parquet cannot be read"):
        load_pose_dataset(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="a pose dataset must have at least one row"):
        prepare_source(bad.to_iterable_dataset().filter(lambda row: False), HUMAN36M, mapped=False)


def test_two_processes_train_on_their_own_shards(recipe_values, shards, tmp_path):
    values = streaming_recipe(recipe_values, tmp_path, shards, workers=1, shuffle_buffer=0)
    values["train"]["sources"] = values["train"]["sources"][:1]
    values |= {"evaluation": {}, "schedule": {"max_steps": 5, "warmup_steps": 0}}
    log = tmp_path / "log.txt"
    assert run_forked(lambda: train(build(Recipe, values)), log, processes=2) == [0, 0], log.read_text()
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    for process in range(2):  # five batches of two rows are each process's half of the data
        saved = json.loads((checkpoint / f"stream_position-{process}.json").read_text())
        assert (saved["process"], saved["positions"]["0"]["count"]) == (process, 10)
    JointDetrForPoseEstimation.from_pretrained(tmp_path / "run" / "final")


def first(stream, count: int) -> list[dict]:
    return list(itertools.islice(stream, count))


def assert_equal_examples(left: list[dict], right: list[dict]) -> None:
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one["pixel_values"], other["pixel_values"])
        assert one["labels"].keys() == other["labels"].keys()
        for name, value in other["labels"].items():
            torch.testing.assert_close(one["labels"][name], value, equal_nan=True, rtol=0, atol=0)


def test_new_people_are_those_that_are_stored(tmp_path):
    folder = synthesize(SynthesisSettings(output=tmp_path / "people", count=5, seed=3, size=32))
    plain = AugmentedExamples(PROCESSOR, HUMAN36M, STILL)
    stored = PoseDataset(load_pose_dataset(folder), plain)
    drawn = first(SyntheticStream(SMALL, plain, Share(), at_once=5), 5)
    assert_equal_examples(drawn, [stored[index] for index in range(5)])


@pytest.mark.parametrize("workers", [0, 1])
def test_readers_share_new_people_and_see_nobody_twice(workers):
    alone = roots(first(SyntheticStream(SMALL, AUGMENTED, Share(), at_once=2), 8))
    assert len(set(alone)) == 8
    seen = []
    for process in range(2):
        stream = SyntheticStream(SMALL, AUGMENTED, Share(process, 2, workers), at_once=2)
        loader = StreamLoader(stream, batch_size=2, num_workers=workers)
        batches = itertools.islice(loader, 2)
        seen += roots({"labels": labels} for batch in batches for labels in batch["labels"])
    assert sorted(seen) == sorted(alone)  # the same views of them, too


def blended(**share) -> BlendedStream:
    rows = make_rows([make_row(seed) for seed in range(6)])
    mixture = RowMixture([rows.to_iterable_dataset(num_shards=2)], [1.0], seed=5, share=Share(**share))
    stored = PoseStream(mixture, AUGMENTED)
    return BlendedStream([stored, SyntheticStream(SMALL, AUGMENTED, Share(**share), at_once=4)], [1.0, 2.0], seed=1)


def drawn(**share) -> SyntheticStream:
    return SyntheticStream(SMALL, AUGMENTED, Share(**share), at_once=4)


@pytest.mark.parametrize(("make", "workers"), [(drawn, 0), (blended, 0), (blended, 1)])
def test_a_stream_of_new_people_goes_on_where_it_stopped(make, workers):
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
    assert len(set(roots(examples))) == 24
    with pytest.raises(ValueError, match="weights of sources and synthesis must be positive"):
        BlendedStream(stream.parts, [1.0, 0.0])


def test_training_and_test_people_differ_for_the_same_seed():
    (tested,) = PersonRows(RowSettings(seed=0, size=32)).render([0])
    (trained,) = PersonRows(RowSettings(seed=person_seed(0, TRAINING_PEOPLE), size=32)).render([0])
    assert tested["joints_3d"] != trained["joints_3d"]
    assert person_seed(0, TRAINING_PEOPLE) != person_seed(1, TRAINING_PEOPLE)


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
    run = TrainingRun(build(Recipe, {**recipe_values, "train": data}))
    assert run.evaluate()["eval_mean_pose/mpjpe"] > 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"train": {"synthesis": {"at_once": 0}}}, "`train.synthesis.at_once` must be at least 1, got 0"),
        ({"train": {"synthesis": {"size": 0}}}, "`size` must be at least 1, got 0"),
        ({"train": {"synthesis": {}}, "skeleton": "coco"}, "have the joints of 'human36m', got 'coco'"),
        ({"train": {"synthesis": {}}, "schedule": {}}, "`schedule.max_steps` must say how long"),
    ],
)
def test_synthesis_that_cannot_be_is_refused_by_name(recipe_values, change, complaint):
    values = {**recipe_values, "evaluation": {}, **change}
    with pytest.raises(ValueError, match=complaint):
        TrainingRun(build(Recipe, values))
