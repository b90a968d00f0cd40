"""What a result depends on beside its config: versions, device, commit."""

import contextlib
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import ganjax

# The file's name in a workdir.
ENVIRONMENT = "environment.json"
PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "numpy",
)


def environment() -> dict[str, Any]:
  """Returns what a result depends on: versions, device, commit, command."""
  # Here, since logs and histories are read without JAX.
  import jax

  # The code knows its own version. What the installer has noted is that of the
  # last `pip install`, older than a checkout that has been updated since.
  versions = {
    "python": platform.python_version(),
    "ganjax": ganjax.__version__,
  }
  for package in PACKAGES:
    with contextlib.suppress(metadata.PackageNotFoundError):
      versions[package] = metadata.version(package)
  devices = jax.devices()
  status = _git("status", "--porcelain")
  return {
    "versions": versions,
    "platform": platform.platform(),
    "backend": devices[0].platform,
    "device_kind": devices[0].device_kind,
    "device_count": len(devices),
    "process_count": jax.process_count(),
    "cpu_count": os.cpu_count(),
    "git_commit": _git("rev-parse", "HEAD"),
    "git_dirty": None if status is None else bool(status),
    "command": shlex.join([sys.executable, *sys.argv]),
    "time": datetime.now(UTC).isoformat(timespec="seconds"),
  }


def version_of(workdir: pathlib.Path) -> str:
  """Returns the version of ganjax that a run notes; "" if it notes none.

  Args:
    workdir: of the run; its `environment.json` may be damaged or missing.
  """
  try:
    return str(
      json.loads((workdir / ENVIRONMENT).read_text())["versions"]["ganjax"]
    )
  except (OSError, ValueError, TypeError, LookupError, RecursionError):
    return ""


def _git(*arguments: str) -> str | None:
  """Returns what git says of the checkout that this file is in, or None."""
  folder = pathlib.Path(__file__).resolve().parents[2]
  if not (folder / ".git").exists():  # Installed into someone's repository.
    return None
  try:
    return subprocess.run(
      # Else `status` would write to the index of the checkout.
      ["git", "--no-optional-locks", "-C", str(folder), *arguments],
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    return None
