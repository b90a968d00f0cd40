"""Notebooks: what is committed, and that they run, at smoke sizes."""

import ast
import base64
import io
import pathlib
import re
import subprocess
import sys
import types

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = {path.stem: path for path in sorted(ROOT.glob("notebooks/*.ipynb"))}
COLAB = "https://colab.research.google.com/"
BADGE = re.compile(
  r"\[!\[Open in Colab\]\(" + re.escape(COLAB) + r"assets/colab-badge\.svg\)\]"
  r"\(" + re.escape(COLAB) + r"github/([\w-]+/[\w-]+)/blob/main/(\S+)\)"
)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")


@pytest.fixture(params=FILES)
def path(request):
  return FILES[request.param]


@pytest.fixture
def notebook(path):
  found = nbformat.read(path, as_version=4)
  nbformat.validate(found)
  return found


def codes(notebook):
  return [c.source for c in notebook.cells if c.cell_type == "code"]


def texts(notebook):
  return [c.source for c in notebook.cells if c.cell_type == "markdown"]


def set_up(path):
  return codes(nbformat.read(path, as_version=4))[0]


def test_all_five_are_there():
  names = "add_a_loss bring_your_own_data losses quickstart theory"
  assert [*FILES] == names.split()


def test_what_is_committed(notebook):
  cells = [c for c in notebook.cells if c.cell_type == "code"]
  assert not any(cell.outputs or cell.execution_count for cell in cells)
  assert all(cell.source.strip() for cell in notebook.cells)
  assert 8 <= len(notebook.cells) <= 15
  assert {*notebook.metadata} == {"colab", "kernelspec", "language_info"}
  for source in codes(notebook):
    ast.parse(source)
    assert max(map(len, source.splitlines())) <= 80, source


def test_badge_and_links_lead_to_files(notebook, path):
  repository, target = BADGE.search(texts(notebook)[0]).groups()
  assert ROOT / target == path
  assert f'"https://github.com/{repository}"' in codes(notebook)[0]
  for text in texts(notebook):
    for link in LINK.findall(text):
      assert (path.parent / link).is_file(), link


def test_set_up_is_the_same_everywhere():
  assert len({set_up(path) for path in FILES.values()}) == 1


def test_set_up_installs_in_colab_alone(monkeypatch, tmp_path):
  source, commands = set_up(FILES["quickstart"]), []
  run = lambda command, **_: commands.append(command)
  monkeypatch.setattr(subprocess, "run", run)
  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.chdir(tmp_path)
  for name in ("google", "google.colab"):
    monkeypatch.setitem(sys.modules, name, None)
  exec(source, {})
  assert not commands
  for name in ("google", "google.colab"):
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
  exec(source, {})
  clone, install = commands
  assert clone[:2] == ["git", "clone"] and clone[-1] == sys.path[0]
  assert install[:3] == [sys.executable, "-m", "pip"]
  # Neither JAX nor what would bring a newer one along.
  assert "--no-deps" in install and not {"-U", "--upgrade"} & {*install}
  assert install[-2:] == ["-e", clone[-1]]
  assert {*install[3:-2]} <= {
    "install", "-q", "--no-deps", "ml_collections", "tensorboardX"
  }  # fmt: skip


@pytest.mark.slow
def test_runs_and_shows_pictures(notebook, tmp_path, monkeypatch):
  monkeypatch.setenv("GANJAX_SMOKE", "1")
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
  # The kernel needs no four devices, and JAX warns where others forked.
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  resources = {"metadata": {"path": str(tmp_path)}}
  client = nbclient.NotebookClient(notebook, timeout=300, resources=resources)
  client.execute()
  outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
  found = [o.data.get("image/png") for o in outputs if "data" in o]
  pictures = [base64.b64decode(png) for png in found if png]
  assert pictures
  for picture in pictures:
    image = Image.open(io.BytesIO(picture)).convert("L")
    assert np.ptp(np.asarray(image)) > 50  # Not blank.
