"""A loopback Hub, a client of it, and a model to publish."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_client import HubClient
from loopback_hub import LoopbackHub, running_hub

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor


@pytest.fixture(scope="session")
def hub() -> Iterator[LoopbackHub]:
    with running_hub() as hub:
        yield hub
        assert not hub.failures


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory) -> HubClient:
    return HubClient(hub, tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="session")
def model_folder(tiny_model_folder, tmp_path_factory) -> Path:
    """A small model whose joints are not all in the same place, and its processor."""
    torch.manual_seed(3)
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.05
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    JointDetrImageProcessor.from_pretrained(tiny_model_folder).save_pretrained(folder)
    return folder
