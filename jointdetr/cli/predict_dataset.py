"""Estimating the 3D poses of a whole data set: Parquet files, by one process or many, on one machine or many."""

import os

import typer

from .options import one_line_errors
from .predict_options import PredictOptions


def predict_dataset(name: str, options: PredictOptions) -> None:
    """Write a Parquet file of poses for each shard of a data set; what is there already is kept.

    Under `torchrun` or `accelerate launch` the processes share the shards, and each uses its own GPU.
    """
    from ..data.loading import load_pose_dataset
    from ..data.prediction import PredictionJob, predict_shards

    process = int(os.environ.get("RANK", 0))
    _take_own_gpu()
    estimator = options.load_estimator()
    with one_line_errors(name):
        camera = _camera(options)
        rows = load_pose_dataset(name, options.split, streaming=True, columns=("image",))
        job = PredictionJob(
            rows,
            lambda items: estimator(items, batch_size=options.batch_size, **camera),
            estimator.model.config.skeleton,
            options.output,
            _settings(name, options),
            options.batch_size,
            [list(box) for box in options.boxes] or None,
            own_boxes=options.detector is None,
            focal_px=options.camera.focal_px,
        )
        report = predict_shards(job, lambda text: typer.echo(f"process {process}: {text}"))
    typer.echo(f"process {process}: {report}, see {options.output}")


def _take_own_gpu() -> None:
    """Let each process of a machine use a GPU of its own."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


def _camera(options: PredictOptions) -> dict[str, object]:
    """Camera arguments of the pipeline, for pictures whose rows have no intrinsics."""
    known = {
        "camera": options.camera.file,
        "distortion": options.camera.distortion,
        "field_of_view": options.camera.field_of_view,
    }
    return {key: value for key, value in known.items() if value is not None}


def _settings(name: str, options: PredictOptions) -> dict[str, object]:
    """What the predictions depend on."""
    from .. import __version__

    return {
        "software": f"jointdetr {__version__}",
        "dataset": name,
        "split": options.split,
        "model": options.model_name,
        "dtype": options.precision.value,
        "threshold": options.threshold,
        "detector": options.detector,
        "people": options.people.value,
        "boxes": [list(box) for box in options.boxes],
        "focal_px": options.camera.focal_px,
    }
