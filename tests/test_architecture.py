"""The house rules that a machine can check: imports, budgets, pages."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "ganjax").rglob("*.py"))

# Each layer may import those to its left, never those to its right.
LAYERS = [
  {"errors"},
  {"registry", "manifest", "signals", "processes"},
  {"parallel", "data", "relativism", "divergences", "latents", "optimizers"},
  {"losses", "state", "augment", "examples", "flops"},
  {"extractors", "nets", "schema", "penalties", "health"},
  {"metrics"},
  {"systems"},
  {"configs"},
  {"plots", "progress", "checkpoint", "sampler"},
  {"logs", "curves"},
  {"run", "theory", "faults"},
  {"evaluate"},
  {"report"},
  {"analyze"},
  {"recorder", "dispatch"},
  {"loop"},
  {"train", "lockstep"},
  {"population"},
  {"main", "sample", "prepare", "convert", "compare"},
  {"bench", "sweep"},
  {"toy_modes"},
]
LEVEL = {name: i for i, names in enumerate(LAYERS) for name in names}


def module_of(path):
  return path.relative_to(ROOT / "ganjax").parts[0].removesuffix(".py")


def imports_of(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      parts = node.module.split(".")
      if parts == ["ganjax"]:
        yield from (alias.name for alias in node.names)
      elif parts[0] == "ganjax":
        yield parts[1]
    if isinstance(node, ast.Import):
      for alias in node.names:
        if alias.name.startswith("ganjax."):
          yield alias.name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
  module = module_of(path)
  if module == "__init__":
    return
  assert module in LEVEL, f"say in which layer {module} stands"
  for name in imports_of(path):
    if name != module and name in LEVEL:
      assert LEVEL[name] < LEVEL[module], f"{module} must not import {name}"


def test_a_step_is_given_its_nets_losses_and_data():
  for path in (ROOT / "ganjax" / "systems").glob("*.py"):
    assert not {"nets", "data", "configs"} & set(imports_of(path)), path


def test_only_configs_train_and_run_read_a_config():
  for path in FILES:
    if module_of(path) not in ("configs", "train", "run", "main"):
      assert "ml_collections" not in path.read_text(), path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_budgets(path):
  assert len(path.read_text().splitlines()) <= 300
  assert path.name != "utils.py"


def test_steps_and_configs_are_short():
  for path in (ROOT / "experiments").glob("*.py"):
    assert len(path.read_text().splitlines()) <= 60, path
    assert code_lines(ast.parse(path.read_text())) <= 50, path
  for path in (ROOT / "ganjax" / "systems").glob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.FunctionDef) and node.name.endswith("_step"):
        assert code_lines(node) <= 35, node.name


def code_lines(node):
  """Counts the lines that hold code: no comments, docstrings, blanks."""
  lines = set()
  for child in ast.walk(node):
    docstring = isinstance(child, ast.Expr) and isinstance(
      child.value, ast.Constant
    )
    if isinstance(child, ast.stmt) and not docstring:
      lines.update((child.lineno, child.end_lineno))
    elif isinstance(child, ast.expr) and not docstring:
      lines.add(child.lineno)
  return len(lines)


def test_readme_is_short_and_names_every_experiment():
  readme = (ROOT / "README.md").read_text()
  assert len(readme.splitlines()) < 120
  for path in (ROOT / "experiments").glob("*.py"):
    assert path.stem in readme, path.stem
