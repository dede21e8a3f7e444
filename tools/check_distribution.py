"""Check what `make package` has built into `dist/`, before anybody else does: `python tools/check_distribution.py`.

The sdist must hold every file of the repository but those that begin with a dot, and neither it nor the wheel may be
larger than it has a reason to be. The wheel is then installed into an environment that has what the package declares
to depend on and nothing else, and `tools/smoke_test.py` is run there. The dependencies are links to those of the
Python that runs this check, so that nothing is downloaded.
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[1]
WHEEL_LIMIT_MB, SDIST_LIMIT_MB = 33, 35  # nearly all of it is weights, 33.4 MB before compression


def one_file(pattern: str, limit_mb: float) -> Path:
    """The file that `dist/` holds of this kind, once it is seen not to be too large."""
    found = list((REPOSITORY / "dist").glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"expected one {pattern} in dist/, got {len(found)}")
    size_mb = found[0].stat().st_size / 1e6
    print(f"{found[0].name}: {size_mb:.1f} MB of at most {limit_mb}", flush=True)
    if size_mb > limit_mb:
        raise SystemExit(f"{found[0].name}: expected at most {limit_mb} MB, got {size_mb:.1f}")
    return found[0]


def check_sdist(sdist: Path) -> None:
    """Raise where the sdist and the files that git tracks differ."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    tracked = {name for name in listed.stdout.split("\0") if name and not name.startswith(".")}
    with tarfile.open(sdist) as archive:
        packed = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    packed -= {"PKG-INFO", ".gitignore"}  # which the build adds
    if packed != tracked:
        raise SystemExit(f"the sdist lacks {sorted(tracked - packed)} and should not hold {sorted(packed - tracked)}")


def dependencies(requires: list[str], extras: set[str], found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Add to `found` what the lines of `requires` ask for where these extras are wanted, and what that asks for."""
    for requirement in map(Requirement, requires):
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in extras)
        if wanted and requirement.name not in found:
            found[requirement.name] = distribution(requirement.name)
            dependencies(found[requirement.name].requires or [], {"", *requirement.extras}, found)
    return found


def link_dependencies(site_packages: Path) -> None:
    """Link what the package that is installed there depends on."""
    [package] = distributions(name="jointdetr", path=[str(site_packages)])
    for dependency in dependencies(package.requires or [], {""}, {}).values():
        for top in {file.parts[0] for file in dependency.files or []} - {"..", "__pycache__"}:
            if not (site_packages / top).exists():
                (site_packages / top).symlink_to(Path(str(dependency.locate_file(top))))


def check_wheel(wheel: Path, folder: Path) -> None:
    """Install the wheel into a new environment in `folder` and use it there."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True)
    link_dependencies(Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)})))
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    smoke_test = [str(python), str(REPOSITORY / "tools" / "smoke_test.py")]
    subprocess.run(smoke_test, cwd=folder, env=outside | {"HF_HUB_OFFLINE": "1"}, check=True)


if __name__ == "__main__":
    check_sdist(one_file("*.tar.gz", SDIST_LIMIT_MB))
    with tempfile.TemporaryDirectory() as folder:
        check_wheel(one_file("*.whl", WHEEL_LIMIT_MB), Path(folder))
