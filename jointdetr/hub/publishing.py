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


def save_with_remote_code(
    model: JointDetrForPoseEstimation, processor: BaseImageProcessor, folder: str | os.PathLike
) -> None:
    """Save model and processor into one folder, which loads with `trust_remote_code=True` alone, as pipeline too.

    People load it so without installing the package. The model is left in eval mode, as the pipeline sets it.

    Args:
        model: The model, its refinement network included.
        processor: Its image processor.
        folder: Where to save; made if it does not exist.
    """
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)


@dataclass(frozen=True)
class PushSettings:
    """How to publish.

    Args:
        private: make the repository private. One that exists has to be private already.
        update: publish a new version in a repository that has files; without it, such a repository is refused.
        tag: name of the model's version, which `from_pretrained(..., revision=tag)` takes.
        space_folder: publish the demo too, as a Space of the same name: the folder with its own files `app.py`,
            `README.md` and `requirements.txt`. The package goes beside them, without its checkpoint.
    """

    private: bool = False
    update: bool = False
    tag: str | None = None
    space_folder: Path | None = None


@dataclass(frozen=True)
class _Upload:
    """A folder on its way to a repository."""

    folder: Path
    repo: str
    repo_type: str
    stale: list[str]  # files of an earlier version that would be stale in a new one
    tag: str | None = None


def push_to_hub(
    model: JointDetrForPoseEstimation,
    processor: BaseImageProcessor,
    repo: str,
    card: ModelCardDetails,
    settings: PushSettings | None = None,
) -> list[str]:
    """Publish a model: weights, image processor, pipeline, the code of all of them, and a card.

    Args:
        model: The model. It is left in evaluation mode.
        processor: Its image processor.
        repo: Name on the Hub, `user/name`.
        card: What the model card says.
        settings: How to publish.

    Returns:
        Address of the model, and of the Space if there is one.

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
        stale = ["*.py", "*.safetensors", "*.safetensors.index.json"]
        uploads = [_Upload(folder / "model", repo, "model", stale, settings.tag)]
        if settings.space_folder is not None:
            _prepare_space(settings.space_folder, folder / "space", repo)
            uploads.append(_Upload(folder / "space", repo, "space", ["jointdetr/*"]))
        return _publish(uploads, settings)


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


def _publish(uploads: list[_Upload], settings: PushSettings) -> list[str]:
    """Check that nothing stands in the way of any upload, then make what is new and upload one commit each."""
    api = HfApi()
    with _plain_errors("nothing was published"):
        api.whoami()
        exist = [_check_repository(api, upload, settings) for upload in uploads]
    addresses = []
    for upload, exists in zip(uploads, exist, strict=True):
        with _plain_errors(f"nothing of the {upload.repo_type} was published"):
            if not exists:
                sdk = {"space_sdk": "gradio"} if upload.repo_type == "space" else {}
                api.create_repo(upload.repo, repo_type=upload.repo_type, private=settings.private or None, **sdk)
            addresses.append(_upload(api, upload))
    return addresses


def _upload(api: HfApi, upload: _Upload) -> str:
    """Put a folder into a repository in one commit, and return its address."""
    if upload.repo_type == "space":
        api.add_space_variable(upload.repo, MODEL_VARIABLE, upload.repo)
    commit = api.upload_folder(
        repo_id=upload.repo,
        repo_type=upload.repo_type,
        folder_path=upload.folder,
        commit_message=f"Publish {upload.tag or 'with jointdetr'}",
        delete_patterns=upload.stale,
    )
    if upload.tag is not None:
        with _plain_errors(f"it was published, but without the tag {upload.tag}"):
            api.create_tag(upload.repo, tag=upload.tag, revision=commit.oid)
    return str(commit.repo_url)


def _check_repository(api: HfApi, upload: _Upload, settings: PushSettings) -> bool:
    """Return whether the repository exists; refuse to overwrite, to publish what is private, and to move a tag."""
    try:
        info = api.repo_info(upload.repo, repo_type=upload.repo_type)
    except RepositoryNotFoundError:
        return False
    if settings.private and not info.private:
        raise ValueError(f"{upload.repo} must be private to be pushed to as private; it exists and is public")
    published = [file.rfilename for file in info.siblings or [] if file.rfilename != ".gitattributes"]
    if published and not settings.update:
        raise ValueError(f"{upload.repo} exists as a {upload.repo_type}; --update publishes a new version of it")
    tags = api.list_repo_refs(upload.repo, repo_type=upload.repo_type).tags
    if upload.tag in {tag.name for tag in tags}:
        raise ValueError(f"{upload.repo} has the tag {upload.tag} already; tags do not move, choose another one")
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
        if status in (401, 403):
            raise PermissionError(
                f"the token is not valid, or may not write there ({status}), {outcome}: {reason}"
            ) from error
        raise OSError(f"the Hub refused ({status}), {outcome}: {reason}") from error
    except HTTPError as error:  # of the transport: no answer
        raise ConnectionError(f"the Hub cannot be reached, {outcome}: {error}") from error
