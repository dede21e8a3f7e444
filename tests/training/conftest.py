"""A small pose dataset and a small recipe."""

import datasets
import pytest
from pose_examples import make_row, make_rows


@pytest.fixture(scope="session")
def pose_rows() -> datasets.Dataset:
    return make_rows([make_row(seed) for seed in range(8)])


@pytest.fixture(scope="session")
def pose_folder(pose_rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("poses")
    pose_rows.save_to_disk(folder)
    return folder


@pytest.fixture
def recipe_values(pose_folder, tmp_path) -> dict:
    """Keys of a recipe that trains a model of a few thousand weights for six steps."""
    return {
        "output": str(tmp_path / "run"),
        "model": {
            "config": {
                "backbone_config": {
                    "model_type": "resnet",
                    "layer_type": "basic",
                    "embedding_size": 8,
                    "hidden_sizes": [8, 8, 16, 16],
                    "depths": [1, 1, 1, 1],
                    "out_features": ["stage3", "stage4"],
                },
                "num_feature_levels": 2,
                "d_model": 16,
                "num_queries": 20,
                "encoder_layers": 1,
                "decoder_layers": 2,
                "encoder_attention_heads": 2,
                "decoder_attention_heads": 2,
                "encoder_ffn_dim": 16,
                "decoder_ffn_dim": 16,
                "num_dense_parts": 16,
                "dropout": 0.1,
            }
        },
        "input": {"height": 64, "width": 64},
        "train": {"sources": [{"path": str(pose_folder)}], "workers": 0, "dense_reduction": 4},
        "evaluation": {"sources": [{"path": str(pose_folder), "limit": 5}], "every_epochs": 1, "batch_size": 2},
        "schedule": {"max_steps": 6, "warmup_steps": 2},
        "optimizer": {"learning_rate": 1e-3},
        "batch_size": 2,
        "device": "cpu",
        "log_steps": 2,
        "watch_steps": 0,
        "report_to": "none",
    }
