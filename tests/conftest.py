"""Fixtures that several test files share, and the quiet surroundings every test runs in."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

# The libraries read these when they are imported: no network, no shared cache, one thread a process.
_HOME = tempfile.TemporaryDirectory(prefix="jointdetr-tests-")
os.environ.setdefault("HF_HOME", _HOME.name)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from films import FilmSettings, corner_pictures, write_film  # noqa: E402
from pose_examples import make_row, make_rows  # noqa: E402

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def calm_torch() -> None:
    """One thread and one seed, so that a test does not depend on the tests before it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real photographs and motion capture, which the repository may not carry; skips where it is absent.

    It is `JOINTDETR_REAL_DATA`, or `data/real` in the repository. Below it lie `human36m` and `cmu-mocap`.
    """
    folder = Path(os.environ.get("JOINTDETR_REAL_DATA") or REPOSITORY / "data" / "real")
    if not folder.is_dir():
        pytest.skip("no real data: set JOINTDETR_REAL_DATA to a folder with human36m and cmu-mocap")
    return folder


@pytest.fixture(scope="session")
def shipped_checkpoint() -> Path:
    """Folder of the checkpoint that comes with the package; skips in a checkout without one."""
    folder = REPOSITORY / "jointdetr" / "pretrained"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("no checkpoint in jointdetr/pretrained")
    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an untrained checkpoint of the whole model, small enough to run in milliseconds."""
    from transformers import ResNetConfig

    from jointdetr import JointDetrConfig, JointDetrForPoseEstimation, JointDetrImageProcessor, JointRefinerConfig

    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = JointDetrConfig(
        backbone_config=backbone,
        d_model=32,
        num_queries=20,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        refiner_config=JointRefinerConfig(hidden_size=32, num_blocks=1),
        # queries that differ in what they take themselves for and look at, as otherwise all joints are one mean
        learned_start=False,
        init_std=0.02,
        class_spread=2.0,
    )
    folder = tmp_path_factory.mktemp("tiny-jointdetr")
    model = JointDetrForPoseEstimation(config).eval()
    model.save_pretrained(folder)
    JointDetrImageProcessor(size={"height": 128, "width": 128}).save_pretrained(folder)
    return folder


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
                "dropout": 0.1,
            }
        },
        "input": {"height": 64, "width": 64},
        "train": {"sources": [{"path": str(pose_folder)}], "workers": 0},
        "evaluation": {"sources": [{"path": str(pose_folder), "limit": 5}], "every_epochs": 1, "batch_size": 2},
        "schedule": {"max_steps": 6, "warmup_steps": 2},
        "optimizer": {"learning_rate": 1e-3},
        "batch_size": 2,
        "device": "cpu",
        "log_steps": 2,
        "watch_steps": 0,
        "report_to": "none",
    }


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Makes a film of `count` frames in the test's folder."""

    def make(name: str = "film.mp4", count: int = 12, **settings: object) -> Path:
        return write_film(tmp_path / name, corner_pictures(count), FilmSettings(**settings))

    return make
