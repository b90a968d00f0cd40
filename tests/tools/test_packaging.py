"""A wheel, installed where there is no checkout, does what a checkout does."""

import os
import pathlib
import shutil
import site
import subprocess
import sys
import venv
from importlib import metadata

import pytest

import ganjax
from ganjax.runs import configs
from ganjax.tools.sweep import tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The first setuptools that pyproject.toml allows.
BUILDS = 77

pytestmark = pytest.mark.slow


def run(*argv, **how):
  done = subprocess.run(
    list(map(str, argv)), capture_output=True, text=True, **how
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


def build(folder):
  """Builds a wheel of a copy, so that nothing is left in the checkout."""
  copy = folder / "copy"
  copy.mkdir()
  for name in ("ganjax", "experiments"):
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / name, copy / name, ignore=ignore)
  for name in "pyproject.toml setup.cfg setup.py README.md LICENSE".split():
    shutil.copy(ROOT / name, copy)
  flags = ["--no-deps", f"--wheel-dir={folder}"]
  try:
    version = metadata.version("setuptools")
  except metadata.PackageNotFoundError:
    version = "0"
  if int(version.partition(".")[0]) >= BUILDS:
    flags.append("--no-build-isolation")
  run(sys.executable, "-m", "pip", "wheel", "-q", *flags, copy)
  (wheel,) = folder.glob("ganjax-*.whl")
  return wheel


class Installed:
  """An environment that has the wheel, and this one's other packages.

  Attributes:
    bin: the folder of its programs.
    package: the folder of the installed `ganjax`.
    folder: an empty one, in which programs are run.
  """

  def __init__(self, folder, wheel):
    venv.create(folder / "venv", symlinks=True)
    self.bin = folder / "venv" / "bin"
    self.folder = folder / "empty"
    self.folder.mkdir()
    flags = ["install", "-q", "--no-deps", "--no-index"]
    python = self.bin / "python"
    run(sys.executable, "-m", "pip", "--python", python, *flags, wheel)
    (self.package,) = folder.glob("venv/lib/*/site-packages/ganjax")
    # Whatever is here editable stays unseen: .pth files are not read there.
    paths = "\n".join(site.getsitepackages())
    (self.package.parent / "others.pth").write_text(paths)

  def run(self, program, *argv):
    """Runs a program of the environment; returns what it printed."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    env.pop("PYTHONPATH", None)
    return run(self.bin / program, *argv, cwd=self.folder, env=env)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  folder = tmp_path_factory.mktemp("packaging")
  return Installed(folder, build(folder))


def test_the_wheel_holds_every_file(installed):
  def files(folder):
    paths = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {p for p in paths if "__pycache__" not in p.parts}

  there = files(installed.package)
  experiments = {"experiments" / p for p in files(ROOT / "experiments")}
  assert there == files(ROOT / "ganjax") | experiments


def test_help_and_version(installed):
  assert "ganjax VERB" in installed.run("ganjax", "--help")
  version = installed.run("ganjax", "--version")
  assert version == f"ganjax {ganjax.__version__}\n"
  ask = "from importlib import metadata; print(metadata.version('ganjax'))"
  found = installed.run("python", "-c", ask)
  assert found == f"{ganjax.__version__}\n"
  for argv in (["ganjax", "train"], ["python", "-m", "ganjax.main"]):
    listed = installed.run(*argv, "--help")
    for name in configs.experiments():
      assert f"  {name} " in listed


def test_the_help_of_sweep_lists_the_tables(installed):
  listed = installed.run("ganjax", "sweep", "--help")
  for name in tables.names():
    assert name in listed


def test_experiments_train_by_name(installed):
  workdir = installed.folder / "toy"
  flags = ["--config", "toy_ring:smoke", f"--workdir={workdir}"]
  installed.run("ganjax", "train", *flags)
  assert (workdir / "config.json").is_file()
  installed.run("python", "-m", "ganjax.main", "--config=digits_dcgan:smoke")
  made = installed.folder / "runs" / "digits_dcgan_smoke"
  assert (made / "config.json").is_file()
  text = installed.run("python", "-m", "ganjax", "sample", made, "--num=4")
  assert text.startswith("4 samples of step 2: ")


def test_a_table_runs_by_name(installed):
  """Its cells are processes that find the experiments, too."""
  out = installed.folder / "table"
  text = installed.run(
    "ganjax", "sweep", "toy_modes:smoke", f"--out={out}", "--jobs=2"
  )
  assert f"{out}/table.md" in text
  page = (out / "table.md").read_text()
  assert f"`ganjax sweep toy_modes:smoke --out={out} --jobs=2`" in page
  assert "Each run is `ganjax train FLAGS`:" in page
