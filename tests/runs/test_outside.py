"""Parts from outside of ganjax: every block of `docs/extending.md` is run.

The blocks are written into a folder outside of the tree. One process runs all
of them in their order, and forgets after each what it has registered or
imported, as if each command had a process of its own. A second process, in
another folder, loads what the first has trained.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import ml_collections
import pytest

from ganjax import errors, registry
from ganjax.objectives import losses
from ganjax.runs import configs, scoring

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extending.md"

# Runs a page's blocks: argv[1:] are the files of commands and of scripts.
DRIVER = """
import pathlib, runpy, shlex, sys
from ganjax import data, main, nets, registry, systems
from ganjax.evaluation import extractors, metrics
from ganjax.objectives import augment, losses, optimizers, penalties, schedules
from ganjax.runs import report

report.figures = lambda *_: {}  # They take longer than a small run.
REGISTRIES = [
  augment.AUGMENTATIONS,
  data.DATASETS,
  extractors.EXTRACTORS,
  losses.LOSSES,
  metrics.METRICS,
  nets.NETS,
  optimizers.OPTIMIZERS,
  penalties.PENALTIES,
  schedules.SCHEDULES,
  systems.SYSTEMS,
]
HERE = pathlib.Path.cwd()

def is_own(thing):
  things = thing.values() if isinstance(thing, dict) else [thing]
  return any(registry.origin(each) for each in things)

def forget():
  for known in REGISTRIES:
    for name in [name for name, thing in known.items() if is_own(thing)]:
      del known[name]
  for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None) or ""
    if file and pathlib.Path(file).is_relative_to(HERE):
      del sys.modules[name]

for block in sys.argv[1:]:
  print(block, flush=True)
  forget()
  if block.endswith(".py"):
    runpy.run_path(block, run_name="__main__")
    continue
  text = pathlib.Path(block).read_text().replace("\\\\\\n", " ")
  for line in text.splitlines():
    forget()
    python, m, module, *flags = shlex.split(line)
    assert [python, m, module] == ["python", "-m", "ganjax.main"], line
    assert main.main(["main", *flags]) == 0, line
"""


def blocks():
  """Yields `(language, text)` of the page's blocks."""
  fence = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
  for match in fence.finditer(PAGE.read_text()):
    yield match[1], match[2]


def write_blocks(folder):
  """Writes the page's files; returns what is to be run, in its order."""
  steps = []
  for i, (language, text) in enumerate(blocks()):
    named = re.match(r"# (\w+\.py)\n", text)
    if named:
      (folder / named[1]).write_text(text)
      continue
    suffix = {"python": "py", "sh": "sh"}[language]
    path = folder / f"step_{i:02}.{suffix}"
    path.write_text(text)
    steps.append(path.name)
  return steps


def run_python(folder, *argv):
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  return subprocess.run(
    [sys.executable, *argv],
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
  )


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
  """A folder outside of the tree in which the page's blocks were run."""
  folder = tmp_path_factory.mktemp("outside")
  driver = tmp_path_factory.mktemp("driver") / "driver.py"
  driver.write_text(DRIVER)
  steps = write_blocks(folder)
  done = run_python(folder, str(driver), *steps)
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
  return folder


LOAD = """
import sys
import ganjax
from ganjax import errors
for workdir in sys.argv[1:]:
  try:
    run = ganjax.load(workdir)
    print("loaded", len(run.sample(2)), run.config.imports)
  except errors.UserError as error:
    print("refused", error)
"""


@pytest.fixture(scope="module")
def loaded(outside, tmp_path_factory):
  """What a new process in another folder says of each run."""
  places = sorted(path.parent for path in outside.glob("runs/*/config.json"))
  elsewhere = tmp_path_factory.mktemp("elsewhere")
  (elsewhere / "load.py").write_text(LOAD)
  done = run_python(elsewhere, "load.py", *map(str, places))
  assert done.returncode == 0, done.stderr[-4000:]
  lines = done.stdout.splitlines()
  return dict(zip([place.name for place in places], lines, strict=True))


@pytest.mark.slow
def test_every_block_runs_and_every_run_loads_elsewhere(loaded):
  names = set(re.findall(r'(?:workdir |")runs/(\w+)', PAGE.read_text()))
  assert loaded.keys() == names and len(names) > 10
  for name, line in loaded.items():
    if name != "python":
      assert line.startswith("loaded 2 ("), (name, line)


@pytest.mark.slow
def test_what_a_script_has_registered_is_named(loaded):
  assert loaded["python"] == (
    "refused config.loss.name: the run used loss 'linear', registered in a "
    "notebook or script that must be run first"
  )


@pytest.mark.slow
def test_what_must_be_imported_is_recorded_by_absolute_paths(outside, loaded):
  for name, files in {
    "name": ["my_losses.py"],
    "place": ["my_losses.py"],
    "file": ["my_losses.py"],
    "nets": ["my_nets.py"],
    "line": ["my_data.py", "my_metrics.py"],
    "rates": ["my_optimizers.py"],
  }.items():
    for file in files:
      assert repr(str(outside / file)) in loaded[name], (name, loaded[name])


# --- What the page does not run ---------------------------------------------


def config(**changes):
  found = configs.load("toy_ring:smoke")
  found.update(changes)
  return found


@pytest.fixture
def own_loss(tmp_path):
  path = tmp_path / "own.py"
  path.write_text(
    "from ganjax.objectives import losses\n"
    "@losses.LOSSES.register\n"
    "def only_here(scale: float = 1.0):\n"
    "  return losses.LOSSES['hinge']()\n"
  )
  yield path
  losses.LOSSES.pop("only_here", None)


def test_a_file_is_recorded_by_its_absolute_path(own_loss, monkeypatch):
  monkeypatch.chdir(own_loss.parent)
  found = configs.resolve(config(loss=dict(name="own.py:only_here")))
  assert found.loss.name == f"{own_loss}:only_here"
  assert found.imports == (str(own_loss),)
  monkeypatch.chdir("/")
  assert configs.resolve(found) == found


def test_an_import_that_has_moved_matters_only_if_it_is_missed(own_loss):
  spec = dict(loss=dict(name="only_here"), imports=("/not/there.py",))
  with pytest.raises(errors.UserError) as e:
    configs.resolve(config(**spec))
  assert "config.loss.name='only_here'" in str(e.value)
  assert "there is no file /not/there.py to import" in str(e.value)
  both = ("/not/there.py", str(own_loss))
  found = configs.resolve(config(**{**spec, "imports": both}))
  assert found.loss.scale == 1.0 and found.imports == both


def test_a_dataset_of_a_file_is_no_place_for_its_classifier(
  tmp_path, monkeypatch
):
  """What is cached under a dataset's name must not land beside its file."""
  path = tmp_path / "own_data.py"
  path.write_text(
    "import numpy as np\n"
    "from ganjax import data\n"
    "def load(split='train'):\n"
    "  return data.Arrays(np.zeros((9, 2), np.float32))\n"
  )
  spec = config(evals={})
  spec.dataset = dict(name=f"{path}:load")
  texts = []

  def keep(*values, **named):
    given = [*values, *named.values()]
    texts.extend(value for value in given if isinstance(value, str))

  monkeypatch.setattr(scoring.evaluate, "Evaluator", keep)
  scoring.evaluator_of(configs.resolve(spec))
  assert "own_data.py:load" in texts


@pytest.mark.parametrize(
  "name, match",
  [
    ("own.py:NUMBER", "is no loss, but 3"),
    ("a b:c", "is no module"),
    (":c", "is no module"),
    (".a:c", "is no module"),
    ("not_a_module:c", "there is no module 'not_a_module'"),
    ("not_a_file.py:c", "there is no file .*not_a_file.py"),
    (5000 * "a" + ".py:c", "is no module"),
    ("a\0.py:c", "there is no file|is no module"),
  ],
  ids=range(8),
)
def test_a_name_that_leads_nowhere(name, match, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "own.py").write_text("NUMBER = 3\n")
  with pytest.raises(errors.UserError, match=match) as e:
    configs.resolve(config(loss=dict(name=name)))
  assert "config.loss.name" in str(e.value)


def test_mistakes_inside_of_a_file_of_ones_own_are_named(own_loss):
  name = f"{own_loss}:only_her"
  with pytest.raises(errors.UserError, match="did you mean 'only_here'"):
    configs.resolve(config(loss=dict(name=name)))
  spec = dict(name=f"{own_loss}:only_here", scal=2.0)
  with pytest.raises(errors.UserError, match="did you mean 'scale'"):
    configs.resolve(config(loss=spec))


def test_one_name_is_one_thing(tmp_path):
  """Neither ganjax's own nor another file's is replaced without a word."""
  text = "from ganjax.objectives import losses\n@losses.LOSSES.register\n"
  own = tmp_path / "own.py"
  own.write_text(text + "def hinge():\n  return 1\n")
  with pytest.raises(errors.UserError, match="'hinge' is one of ganjax's own"):
    registry.import_module(str(own))
  first, second = tmp_path / "first.py", tmp_path / "second.py"
  for path in (first, second):
    path.write_text(text + "def twice():\n  return 1\n")
  try:
    registry.import_module(str(first))
    found = losses.LOSSES["twice"]
    losses.LOSSES.register(found)  # The same file may do so again.
    with pytest.raises(errors.UserError, match="by .*first.py already"):
      registry.import_module(str(second))
    assert losses.LOSSES["twice"] is found
  finally:
    losses.LOSSES.pop("twice", None)


def test_a_part_of_a_package_is_found_from_another_folder(tmp_path):
  """By the path of its file, with its relative imports."""
  package = tmp_path / "here" / "my_package"
  package.mkdir(parents=True)
  (package / "__init__.py").write_text("")
  (package / "numbers.py").write_text("FACTOR = 2.0\n")
  (package / "parts.py").write_text(
    "from ganjax.objectives import losses\n"
    "from .numbers import FACTOR\n"
    "def own(scale: float = FACTOR):\n"
    "  return losses.LOSSES['hinge']()\n"
  )
  (tmp_path / "there").mkdir()
  script = (
    "import sys\n"
    "from ganjax.runs import configs\n"
    "config = configs.load('toy_ring:smoke')\n"
    "config.loss = dict(name='my_package.parts:own')\n"
    "config.imports = tuple(sys.argv[1:])\n"
    "found = configs.resolve(config)\n"
    "print(found.loss.scale, *found.imports)\n"
  )
  wanted = f"2.0 {package / 'parts.py'}"
  here = run_python(tmp_path / "here", "-c", script)
  assert here.stdout.strip() == wanted, here.stderr
  there = run_python(tmp_path / "there", "-c", script, wanted.split()[1])
  assert there.stdout.strip() == wanted, there.stderr


# --- Experiment files -------------------------------------------------------

FILES = {
  "def get_config(arg):\n  return None": "must return a ConfigDict or a dict",
  "x = 1": "has no function get_config",
  "def get_config():\n  return dict(num_steps=1)": "its get_config takes none",
  "def get_config(arg):\n  return {'x': 1}[arg]": "knows no argument 'smoke'",
}


@pytest.mark.parametrize("text", FILES)
def test_an_experiment_file_that_is_none(text, tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(text)
  with pytest.raises(errors.UserError, match=FILES[text]) as e:
    configs.load(f"{path}:smoke")
  assert "\n" not in str(e.value)


def test_experiment_files_may_be_ordinary_modules(tmp_path):
  """A dict, postponed annotations, and what lies beside the file."""
  (tmp_path / "beside_it.py").write_text("STEPS = 7\n")
  path = tmp_path / "mine.py"
  path.write_text(
    "from __future__ import annotations\n"
    "import dataclasses\n"
    "import beside_it\n"
    "@dataclasses.dataclass\n"
    "class Size:\n"
    "  steps: int = beside_it.STEPS\n"
    "def get_config():\n"
    "  return {'num_steps': Size().steps}\n"
  )
  found = configs.load(str(path))
  assert isinstance(found, ml_collections.ConfigDict) and found.num_steps == 7
  path.write_text("def get_config():\n  return {'num_steps': 8}\n")
  assert configs.load(str(path)).num_steps == 8  # It is read anew.


@pytest.mark.parametrize("file", ["no/such/toy_ring.py", "toy_ring.py"])
def test_a_path_that_is_not_there_is_no_experiment_of_ganjax(file):
  with pytest.raises(errors.UserError, match="there is no file .* toy_ring$"):
    configs.load(file)


# --- Sections by annotation -------------------------------------------------

CYCLE = """
import dataclasses
import flax.linen as nn
import optax
from ganjax.objectives import losses

@dataclasses.dataclass(frozen=True, kw_only=True)
class Cycle:
  generator_ab: nn.Module
  generator_ba: nn.Module
  discriminator_a: nn.Module
  discriminator_b: nn.Module
  loss: losses.Loss
  opt: optax.GradientTransformation
  slow_opt: optax.GradientTransformation | None = None
  cycle_weight: float = 10.0
"""


def test_the_sections_of_a_system_are_told_by_its_annotations(tmp_path):
  path = tmp_path / "cycle.py"
  path.write_text(CYCLE)
  spec = config().to_dict()
  adam = spec.pop("g_opt")
  del spec["d_opt"]
  generator = spec.pop("generator")
  discriminator = spec.pop("discriminator")
  spec.update(
    system=dict(name=f"{path}:Cycle"),
    generator_ab=generator,
    generator_ba=generator,
    discriminator_a=discriminator,
    discriminator_b=discriminator,
    opt=adam,
    ema=dict(decay=0.0),
  )
  found = configs.resolve(ml_collections.ConfigDict(spec))
  assert found.system.cycle_weight == 10.0 and "slow_opt" not in found
  system = configs.build(found, (2,), 0)
  assert type(system.generator_ba).__name__ == "Generator"
  assert type(system.discriminator_b).__name__ == "Discriminator"
  assert system.slow_opt is None
  del spec["generator_ba"]
  with pytest.raises(errors.UserError, match="config.generator_ba is missing"):
    configs.resolve(ml_collections.ConfigDict(spec))


# --- A whole system of somebody else's --------------------------------------

SHOW = """
import ganjax
run = ganjax.load("mine/run")
images = run.sample(3)
shown = run.show(images)
assert images.shape == shown.shape == (3, 16, 32, 1), shown.shape
assert (shown[:, :, :16] == images[:, :, :16]).all()
print(run.step, sorted(run.state.nets), run.history()[-1]["step"])
"""


def test_a_cyclegan_trains_and_is_loaded_elsewhere(tmp_path):
  """Four networks, a dataset and a step that ganjax does not know."""
  shutil.copytree(ROOT / "docs" / "cyclegan", tmp_path / "mine")
  flags = [
    "--config=experiment.py:smoke",
    "--workdir=run",
    "--config.log_every=1",
  ]
  done = run_python(tmp_path / "mine", "-m", "ganjax", "train", *flags)
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
  (tmp_path / "show.py").write_text(SHOW)
  done = run_python(tmp_path, "show.py")
  assert done.returncode == 0, done.stderr[-4000:]
  assert done.stdout.startswith("2 ['discriminator_a', 'discriminator_b', ")
