"""Checkpoints that carry their code, and their uploads: each repository gets everything in one commit, or nothing."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, RepoCard
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError
from transformers.image_processing_utils import BaseImageProcessor

from ..modeling_jointdetr import JointDetrForPoseEstimation
from .model_card import ModelCardDetails, write_model_card

PACKAGE = Path(__file__).parents[1]
MODEL_VARIABLE = "JOINTDETR_MODEL"  # by which the Space knows its model
STALE = {"model": ["*.py", "*.safetensors", "*.safetensors.index.json"], "space": [f"{PACKAGE.name}/*"]}
"""Files of an earlier version that would be stale in a new one, by the kind of repository."""


def save_with_remote_code(
    model: JointDetrForPoseEstimation, processor: BaseImageProcessor, folder: str | os.PathLike
) -> None:
    """Save a model, with its refinement network, and its processor into one folder, which is made if need be.

    It loads with `trust_remote_code=True` alone, as pipeline too: people load it so without installing the package.
    The model is left in eval mode, as the pipeline sets it.
    """
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)


@dataclass(frozen=True)
class PushSettings:
    """How to publish.

    Args:
        private: make the repository private; one that exists has to be so already.
        update: publish a new version in a repository that has files; without it, such a one is refused.
        tag: name of the model's version, which `from_pretrained(..., revision=tag)` takes.
        space_folder: publish the demo too, as a Space of the same name: the folder of its own files `app.py`,
            `README.md` and `requirements.txt`. The package goes beside them, without its checkpoint.
    """

    private: bool = False
    update: bool = False
    tag: str | None = None
    space_folder: Path | None = None


def push_to_hub(
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    repo: str,
    card: ModelCardDetails,
    settings: PushSettings | None = None,
) -> list[str]:
    """Publish a model: weights, image processor, pipeline, the code of all of them, and a card.

    The model, which is left in evaluation mode, goes to `repo`, `user/name` on the Hub. Returns its address, and that
    of the Space if there is one.

    Raises:
        ValueError: The name is none; a repository has files already, or is public though it should be private, or has
            the tag; the Space's folder lacks a file.
        PermissionError: The token is not valid, or may not write there.
        ConnectionError: The Hub cannot be reached.
        OSError: There is no token, the Hub refused, or the upload broke off. Nothing of it is visible then, and it can
            be repeated.
    """
    settings = settings or PushSettings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_with_remote_code(model, processor, folder / "model")
        write_model_card(folder / "model", model, processor, repo, card)
        if settings.space_folder is not None:
            _prepare_space(settings.space_folder, folder / "space", repo)
        return _publish(folder, repo, settings)


def _prepare_space(source: Path, folder: Path, model_repo: str) -> None:
    """Copy the Space's own files and the package, and name the model in the metadata."""
    for needed in ("app.py", "README.md"):
        if not (source / needed).is_file():
            raise ValueError(f"the folder of the Space must hold {needed}, got {source} without it")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    unwanted = shutil.ignore_patterns("__pycache__", "node_modules", "pretrained", "pretrained_synthetic")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=unwanted)
    card = RepoCard.load(folder / "README.md")
    if card.data.get("sdk") != "gradio":
        raise ValueError(f"the metadata of {source}/README.md must have `sdk: gradio`, got {card.data.get('sdk')!r}")
    card.data.models = [model_repo]
    card.save(folder / "README.md")


def _publish(folder: Path, repo: str, settings: PushSettings) -> list[str]:
    """Check that nothing stands in the way of any upload, then make what is new and upload one commit each."""
    api = HfApi()
    tags = {kind: settings.tag if kind == "model" else None for kind in STALE if (folder / kind).is_dir()}
    with _plain_errors("nothing was published"):
        api.whoami()
        exists = {kind: _check_repository(api, repo, kind, settings) for kind in tags}
    addresses = []
    for kind, tag in tags.items():
        with _plain_errors(f"nothing of the {kind} was published"):
            if not exists[kind]:
                sdk = {"space_sdk": "gradio"} if kind == "space" else {}
                api.create_repo(repo, repo_type=kind, private=settings.private or None, **sdk)
            if kind == "space":
                api.add_space_variable(repo, MODEL_VARIABLE, repo)
            commit = api.upload_folder(
                repo_id=repo,
                repo_type=kind,
                folder_path=folder / kind,
                commit_message=f"Publish {tag or 'with jointdetr'}",
                delete_patterns=STALE[kind],
            )
        if tag is not None:
            with _plain_errors(f"it was published, but without the tag {tag}"):
                api.create_tag(repo, tag=tag, revision=commit.oid)
        addresses.append(str(commit.repo_url))
    return addresses


def _check_repository(api: HfApi, repo: str, kind: str, settings: PushSettings) -> bool:
    """Return whether the repository exists; refuse to overwrite, to publish what is private, and to move a tag."""
    try:
        info = api.repo_info(repo, repo_type=kind)
    except RepositoryNotFoundError:
        return False
    if settings.private and not info.private:
        raise ValueError(f"{repo} must be private to be pushed to as private; it exists and is public")
    published = [file.rfilename for file in info.siblings or [] if file.rfilename != ".gitattributes"]
    if published and not settings.update:
        raise ValueError(f"{repo} exists as a {kind}; --update publishes a new version of it")
    tags = api.list_repo_refs(repo, repo_type=kind).tags if kind == "model" else []
    if settings.tag in {tag.name for tag in tags}:
        raise ValueError(f"{repo} has the tag {settings.tag} already; tags do not move, choose another one")
    return True


@contextmanager
def _plain_errors(outcome: str) -> Iterator[None]:
    """Say in one line what the Hub's client says in many, and what has come of the upload."""
    try:
        yield
    except (HfHubHTTPError, RuntimeError) as error:  # the latter is how the client reports that a file did not arrive
        refusal = error if isinstance(error, HfHubHTTPError) else error.__cause__
        if not isinstance(refusal, HfHubHTTPError):
            raise OSError(f"the upload broke off, {outcome}, repeat it: {' '.join(str(error).split())}") from error
        status = refusal.response.status_code
        reason = refusal.server_message or " ".join(str(refusal).split())
        said = f"({status}), {outcome}: {reason}"
        if status in (401, 403):
            raise PermissionError(f"the token is not valid, or may not write there {said}") from error
        raise OSError(f"the Hub refused {said}") from error
    except HTTPError as error:  # of the transport: no answer
        raise ConnectionError(f"the Hub cannot be reached, {outcome}: {error}") from error
