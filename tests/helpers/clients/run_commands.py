"""Run commands of jointdetr one after another and print what each of them did, as JSON."""

import json
import os
import sys

from typer.testing import CliRunner

from jointdetr.cli import app

outcomes = []
for command in json.loads(sys.argv[1]):
    os.environ["HF_TOKEN"] = command.get("token", os.environ["HF_TOKEN"])  # read again at every request
    result = CliRunner().invoke(app, command["arguments"])
    outcomes.append({"code": result.exit_code, "stdout": result.stdout, "stderr": result.stderr})
    if result.exit_code not in (0, 2):
        raise RuntimeError(f"{command} ended with {result.exit_code}") from result.exception
print(json.dumps(outcomes))
