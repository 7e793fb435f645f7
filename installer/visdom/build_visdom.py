"""A PEP 517 backend that builds the published visdom 0.2.4 from the package index."""

import os
import subprocess
import sys
from pathlib import Path

RELEASE = "visdom==0.2.4"


def build_wheel(
    wheel_directory: str, config_settings: dict | None = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel with the tools of this build environment; give its file name."""
    # pip hands its hook's name down in the environment; the inner pip must not find this backend again.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("_PYPROJECT_HOOKS_", "PEP517_"))}
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        wheel_directory,
        RELEASE,
    ]
    subprocess.run(command, env=env, check=True)
    return next(Path(wheel_directory).glob("visdom-*.whl")).name
