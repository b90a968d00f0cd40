"""The house rules that a machine can check: imports by wing, and pages."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ganjax"
FILES = sorted(PACKAGE.rglob("*.py"))

# Each wing may import those above it in this list, and its own files.
# Wings that stand in one set do not know each other.
WINGS = [
  {"errors"},
  {"registry", "files", "processes", "ranges"},
  {"parallel", "state"},
  {"data", "nets", "objectives"},
  {"evaluation"},
  {"systems"},
  {"runs"},
  {"training"},
  {"cli"},
  {"main"},
  {"tools"},
  {"__main__"},
]
FLOOR = {wing: floor for floor, wings in enumerate(WINGS) for wing in wings}


def wing_of(path):
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
  """Yields the wings that a file imports."""
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
  wing = wing_of(path)
  if wing == "__init__":
    return
  assert wing in FLOOR, f"say on which floor {wing} stands"
  for name in imports_of(path):
    if name != wing and name in FLOOR:
      assert FLOOR[name] < FLOOR[wing], f"{wing} must not import {name}"


def test_a_step_is_given_its_data_and_its_config():
  for path in (PACKAGE / "systems").glob("*.py"):
    assert "data" not in imports_of(path), path


def test_readme_is_short_and_names_every_experiment():
  readme = (ROOT / "README.md").read_text()
  assert len(readme.splitlines()) < 120
  for path in (ROOT / "experiments").glob("*.py"):
    assert path.stem in readme, path.stem
