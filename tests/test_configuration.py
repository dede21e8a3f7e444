import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from jointdetr import JointDetrForPoseEstimation
from jointdetr.configuration_jointdetr import JointDetrConfig, JointRefinerConfig
from jointdetr.skeleton_jointdetr import HUMAN36M

THREE_JOINTS = {"id2label": {0: "hip", 1: "knee", 2: "ankle"}, "joint_parents": [-1, 0, 1]}


def test_defaults_are_the_paper_on_human36m():
    config = JointDetrConfig()
    assert (config.num_queries, config.num_joints, config.num_feature_levels, config.d_model) == (100, 17, 4, 256)
    assert config.backbone_config.model_type == "resnet"
    assert config.backbone_config.out_features == ["stage2", "stage3", "stage4"]
    assert config.id2label[10] == "head" and config.root_joint == 0 and [1, 4] in config.flip_pairs
    assert config.layer_thresholds == [100.0, 80.0, 60.0, 40.0, 20.0, 0.0]
    assert config.layer_discounts == [0.1] * 6
    assert config.refiner_config is None


def test_a_given_skeleton_replaces_the_default_whole():
    config = JointDetrConfig(**THREE_JOINTS, refiner_config=JointRefinerConfig(**THREE_JOINTS))
    assert config.num_joints == 3 and config.root_joint == 0 and config.flip_pairs == []
    assert config.label2id == {"hip": 0, "knee": 1, "ankle": 2}


def test_the_skeleton_is_the_shipped_one_or_its_own():
    assert JointDetrConfig().skeleton is HUMAN36M
    own = JointDetrConfig(**THREE_JOINTS, flip_pairs=[[1, 2]]).skeleton
    assert (own.joints, own.parents, own.flip_pairs, own.root) == (("hip", "knee", "ankle"), (-1, 0, 1), ((1, 2),), 0)


def test_fixed_alignment_has_one_query_per_joint():
    assert JointDetrConfig(query_alignment="fixed").num_queries == 17
    assert JointDetrConfig(query_alignment="fixed").query_groups == 1


def test_groups_of_queries_have_room_for_all_joints():
    assert [JointDetrConfig(num_queries=queries).query_groups for queries in (100, 85, 80, 40)] == [5, 5, 1, 1]


def test_json_round_trip_keeps_every_field(tmp_path):
    config = JointDetrConfig(**THREE_JOINTS, refiner_config=JointRefinerConfig(**THREE_JOINTS), decoder_layers=2)
    config.save_pretrained(tmp_path)
    loaded = JointDetrConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert isinstance(loaded.refiner_config, JointRefinerConfig)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "jointdetr"


def test_what_was_saved_before_a_field_existed_is_as_it_was_then():
    new = ("learned_start", "detach_layers", "matching_class_weight", "auxiliary_loss", "query_groups")
    saved = {name: value for name, value in JointDetrConfig(class_weight=2.0).to_dict().items() if name not in new}
    old = JointDetrConfig.from_dict(saved)
    assert (old.learned_start, old.detach_layers, old.matching_class_weight) == (False, True, 2.0)
    assert old.auxiliary_loss and old.query_groups == 1
    for early in (False, True):
        aligned = {"query_alignment": "fixed", "num_queries": 17, "intermediate_supervision": early}
        read = JointDetrConfig.from_dict({**saved, **aligned})
        assert read.auxiliary_loss is early and not hasattr(read, "intermediate_supervision")
    assert JointDetrConfig.from_dict(old.to_dict()).to_dict() == old.to_dict()


@pytest.mark.parametrize("name", ["pretrained", "pretrained_synthetic"])  # the latter still has a dense head
def test_shipped_checkpoints_have_all_weights_that_their_configurations_ask_for(shipped_checkpoint, name):
    folder = shipped_checkpoint.with_name(name)
    _, info = JointDetrForPoseEstimation.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


def test_one_decoder_layer_is_held_to_the_millimetre():
    assert JointDetrConfig(decoder_layers=1).layer_thresholds == [0.0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"query_alignment": "free"}, "query_alignment"),
        ({"num_queries": 5}, "at least 17.*got 5"),
        ({"num_queries": 100, "query_groups": 3}, r"divide `num_queries` \(100\), got 3"),
        ({"num_queries": 100, "query_groups": 10}, "at least 170.*got 100"),
        ({"query_alignment": "fixed", "num_queries": 100}, r"\(17\), got 100"),
        ({"id2label": {0: "a", 1: "a"}, "joint_parents": [-1, 0]}, "unique.*'a'"),
        ({"id2label": {0: "a", 2: "b"}, "joint_parents": [-1, 0]}, "keys 0 to 1"),
        ({"id2label": {0: "a", 1: "b"}}, "without `joint_parents`"),
        ({"joint_parents": [-1, 0]}, "each of the 17 joints"),
        ({"id2label": {0: "a", 1: "b", 2: "c"}, "joint_parents": [-1, 2, 1]}, "`joint_parents`.*must lead.*joint 1"),
        ({"id2label": {0: "a", 1: "b"}, "joint_parents": [-1, 7]}, "must lead from every joint"),
        ({**THREE_JOINTS, "root_joint": 1}, "must lead from every joint to the root 1"),
        ({"flip_pairs": [[1, 4], [4, 5]]}, "disjoint"),
        ({"flip_pairs": [[1, 40]]}, "from 0 to 16"),
        ({"d_model": 100}, "multiple of `encoder_attention_heads`"),
        ({"decoder_layers": 0}, "`decoder_layers`.*got 0"),
        ({"dropout": 1.5}, "`dropout`.*got 1.5"),
        ({"class_weight": -1.0}, "`class_weight`.*got -1.0"),
        ({"coarse_thresholds": [50.0, 0.0]}, r"\(6\), got \[50.0, 0.0\]"),
        ({"joint_scale": 0.0}, "`joint_scale`.*got 0.0"),
        ({"num_queries": "many"}, "num_queries"),
        ({"init_std": -1.0}, "`init_std`.*got -1.0"),
        ({"matching_class_weight": -1.0}, "`matching_class_weight`.*got -1.0"),
        ({"activation_function": "nope"}, "`activation_function`.*got 'nope'"),
        ({"coarse_thresholds": [float("nan")] * 6}, "`coarse_thresholds`.*nan"),
        ({**THREE_JOINTS, "joint_parents": [-1, 0.0, 1]}, "whole numbers.*0.0"),
        ({"refiner_config": JointRefinerConfig(**THREE_JOINTS)}, "`refiner_config` must have the model's skeleton"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(fields, said):
    with pytest.raises((ValueError, StrictDataclassError), match=f"(?s){said}"):
        JointDetrConfig(**fields)


def test_refiner_rates_are_checked():
    with pytest.raises(StrictDataclassError, match="`selection_rate`.*got 2"):
        JointRefinerConfig(selection_rate=2.0)


def test_a_checkpoint_with_fields_of_earlier_versions_loads(tiny_model_folder, tmp_path):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert "look_forward_twice" not in fields
    gone = {"look_forward_twice": False, "num_query_groups": 1, "joint_loss": "l1", "class_quality_scale": None}
    gone |= {"num_dense_parts": 16, "dense_upscaling": 4, "dense_weight": 1.0}
    (tmp_path / "config.json").write_text(json.dumps(fields | gone))
    again, info = JointDetrForPoseEstimation.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    pictures = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(pictures).pred_joints, model(pictures).pred_joints)
