"""Everything that waits for a GPU, in one go: the kernels' tests, and the benchmarks that have a GPU's side.

    python benchmarks/on_gpu.py --output gpu
    python benchmarks/on_gpu.py --output gpu --only kernels attention

All of it takes less than 25 minutes on one data-centre GPU, as each part has a limit; a part that fails, or does not
end in time, does not keep the others from running. The folder gets a JSON file from each benchmark, and `summary.json`
with the end of what each part printed. The exit code is 1 if a part failed. `--device cpu --small` runs the parts in
small on a machine without a GPU, to see that they work; kernels are then tested by Triton's interpreter.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
R50 = str(ROOT / "examples" / "recipes" / "synthetic-r50.yaml")
LAST_CHARACTERS = 4000
PACKAGES = ("torch", "triton", "transformers", "accelerate", "datasets", "scipy", "pytest")


@dataclass(frozen=True)
class Part:
    """One command, from the repository's root.

    Args:
        name: what it is called here; its JSON file is named after it.
        arguments: of Python.
        limit_s: seconds that it may take.
        small: more arguments, with which it is quick on a CPU.
    """

    name: str
    arguments: tuple[str, ...]
    limit_s: int
    small: tuple[str, ...] = ()


def benchmark(name: str, file: str, limit_s: int, arguments: Sequence[str] = (), small: Sequence[str] = ()) -> Part:
    """A file of this folder that writes JSON to `{output}/NAME.json`."""
    command = (f"benchmarks/{file}.py", "--output", f"{{output}}/{name}.json", *arguments)
    return Part(name, command, limit_s, tuple(small))


def training(config: str, render_on: str) -> Part:
    """Images a second of a recipe whose people are rendered on the GPU or on the CPU."""
    more = ["train.synthesis.preset=everyday", "precision=bf16", "batch_size=64"]
    small = ["--steps", "6", "--workers", "0", "batch_size=2", "train.synthesis.size=64", "train.synthesis.at_once=2"]
    arguments = ["--config", config, "--render-on", render_on, "--workers", "14", *more]
    return benchmark(f"{Path(config).stem}-rendered-on-{render_on}", "training_speed", 180, arguments, small)


PARTS = (
    Part("kernels", ("-m", "pytest", "-q", "tests/test_deformable_attention_triton.py"), 150),
    benchmark("attention", "deformable_attention_gpu", 240, small=["--rounds", "1", "--small"]),
    benchmark(
        "whole-model",
        "whole_model",
        240,
        ["--batch", "32", "--precisions", "fp32", "bf16", "--threads", "8"],
        ["--rounds", "1", "--batch", "1", "--size", "64"],
    ),
    benchmark("synthesis", "synthesis", 120, ["--size", "256"], ["--people", "8", "--size", "64", "--at-once", "4"]),
    *(training(config, device) for config in ("synthetic-tiny", R50) for device in ("auto", "cpu")),
)


def command_of(part: Part, output: Path, device: str, small: bool) -> list[str]:
    """Fill in the folder and the device."""
    arguments = [argument.format(output=output) for argument in part.arguments]
    devices = {
        "kernels": [],
        "synthesis": ["--devices", "cpu", *([device] if device != "cpu" else [])],
        "attention": ["--device", device],
        "whole-model": ["--device", device],
    }
    arguments += devices.get(part.name, ["--device", "cpu" if device == "cpu" else "auto"])
    return [sys.executable, *arguments, *(part.small if small else ())]


def run(command: Sequence[str], limit_s: float) -> dict[str, Any]:
    """Run a command from the repository's root: how it ended, how long it took, and the end of what it printed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    started = time.monotonic()
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, errors="replace", start_new_session=True, **options
    ) as process:
        try:
            printed, _ = process.communicate(timeout=limit_s)
            ending = "done" if process.returncode == 0 else f"exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the workers that it has started
            printed, _ = process.communicate()
            ending = f"stopped after {limit_s:g} s"
    seconds = round(time.monotonic() - started, 1)
    return {"ending": ending, "seconds": seconds, "printed": printed[-LAST_CHARACTERS:]}


def describe_machine() -> dict[str, str]:
    """Name the GPU, and the version of each package that the parts need."""
    found = {"gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def run_parts(commands: dict[str, Sequence[str]], limits_s: dict[str, float], output: Path) -> list[str]:
    """Run all commands in turn, write `summary.json` after each, and return the names of those that failed."""
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    machine = describe_machine()
    print("  ".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
    for name, command in commands.items():
        print(f"== {name}", flush=True)
        results[name] = run(command, limits_s[name])
        print(
            results[name]["printed"], f"{results[name]['ending']}, {results[name]['seconds']} s", sep="\n", flush=True
        )
        summary = {"machine": machine, "parts": results}
        (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return [name for name, result in results.items() if result["ending"] != "done"]


def main() -> None:
    """Run the parts and say which failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], help="some of the parts")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="sizes that are quick on a CPU and say nothing")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here that PyTorch can use; `--device cpu --small` tries the parts without one")
    output = options.output.resolve()
    parts = [part for part in PARTS if options.only is None or part.name in options.only]
    commands = {part.name: command_of(part, output, options.device, options.small) for part in parts}
    failed = run_parts(commands, {part.name: part.limit_s for part in parts}, output)
    if failed:
        print(f"failed: {', '.join(failed)}")
        sys.exit(1)
    print(f"all is done; see {output}")


if __name__ == "__main__":
    main()
