"""Clients of the loopback Hub, in processes of their own: they read where the Hub is when they are imported."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from loopback_hub import TOKEN, LoopbackHub

CLIENTS = Path(__file__).with_name("clients")
HELPERS = Path(__file__).parent


@dataclass(frozen=True)
class HubClient:
    """Runs scripts of `clients/` against the Hub, with a home of their own in `folder`."""

    hub: LoopbackHub
    folder: Path

    def start(self, script: str, *arguments: object, token: str | None = TOKEN, xet: bool = False) -> subprocess.Popen:
        """Start a script; `xet=False` leaves large files to git-lfs."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "PYTHONPATH": str(HELPERS),
        }
        environment |= {"HF_ENDPOINT": self.hub.address, "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
        environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | ({} if xet else {"HF_HUB_DISABLE_XET": "1"})
        environment |= {"HF_TOKEN": token} if token else {}
        command = [sys.executable, str(CLIENTS / script), *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **pipes)

    def run(self, script: str, *arguments: object, **options: object) -> dict | list:
        """Run a script to its end and return the JSON on the last line that it prints."""
        process = self.start(script, *arguments, **options)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-4000:]
        return json.loads(output.splitlines()[-1])
