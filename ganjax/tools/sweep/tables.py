"""A table: what is to be run, and what a paper says of it.

A file in `experiments/tables/` has `get_table(arg)`, which returns plain data:

    dict(
      title="...",
      source="the paper, and which of its tables",
      seeds=(0, 1, 2),
      values=("frechet",),  # of ours, by their names in the log
      paper={"FID": "arXiv ..., how it was measured"},  # its columns
      rows=[
        dict(
          label="RSGAN",
          experiment="cifar_rsgan",
          overrides={"loss.relativism": "pairing"},  # flags of ganjax.main
          paper={"FID": 36.61},
        ),
      ],
    )

A row's `overrides` and `paper` may be left out, and so may the table's `paper`.
"""

import pathlib
import re
import runpy
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ganjax import errors
from ganjax.runs import configs
from ganjax.tools.sweep.cell import Cell

# Plain data, as above: a table, or one of its rows.
Table: TypeAlias = Mapping[str, Any]

TABLES = configs.EXPERIMENTS / "tables"
KEYS = {"title", "source", "seeds", "values", "paper", "rows"}
ROW_KEYS = {"label", "experiment", "overrides", "paper"}


def names() -> dict[str, pathlib.Path]:
  """Returns name -> file of the tables that come with ganjax."""
  return {f.stem: f for f in sorted(TABLES.glob("[a-z]*.py"))}


def load(spec: str) -> dict[str, Any]:
  """Returns the table of `FILE[:ARGUMENT]`; FILE may be a bare name.

  Raises:
    UserError: there is no such file, it does not know the argument, or what
      it returns is no table.
  """
  file, _, argument = spec.partition(":")
  path = pathlib.Path(file)
  if not path.is_file():
    path = names().get(path.stem, path)
  if not path.is_file():
    raise errors.unknown("table", file, names())
  get_table = runpy.run_path(str(path)).get("get_table")
  if get_table is None:
    raise errors.UserError(f"{path} has no get_table, so it is no table")
  try:
    table = get_table(argument)
  except KeyError as error:
    if error.args != (argument,):
      raise
    raise errors.UserError(
      f"{path.name} knows no argument {argument!r}"
    ) from error
  return _checked(table, path.name)


def _checked(table: Table, name: str) -> dict[str, Any]:
  """Returns a table with every key there."""
  result = {"paper": {}, **table}
  _check_keys(result, KEYS, name)
  result["rows"] = [
    {"overrides": {}, "paper": {}, **row} for row in result["rows"]
  ]
  for row in result["rows"]:
    where = f"{name}, row {row.get('label')!r}"
    _check_keys(row, ROW_KEYS, where)
    for column in row["paper"]:
      if column not in result["paper"]:
        raise errors.unknown(f"column of {where}", column, result["paper"])
  # Two rows of one folder would train into the same workdir.
  folders = [folder_of(row["label"]) for row in result["rows"]]
  twice = sorted({f for f in folders if folders.count(f) > 1})
  if twice or not folders or not result["seeds"]:
    text = f"{name} must have rows, seeds, and a label of its own for each row"
    if twice:
      text += f"; twice: {', '.join(twice)}"
    raise errors.UserError(text)
  return result


def _check_keys(found: Table, known: set[str], where: str) -> None:
  """Raises a `UserError` unless a table has exactly the keys in `known`."""
  for key in found:
    if key not in known:
      raise errors.unknown(f"key of {where}", key, known)
  for key in sorted(known - found.keys()):
    raise errors.UserError(f"{where}: {key!r} is missing")


def folder_of(label: str) -> str:
  """Returns the name of a row's folder."""
  return re.sub(r"[^\w.+-]+", "_", label).strip("_").lower()


def flags(row: Table) -> list[str]:
  """Returns a row's overrides as flags of `ganjax.main`."""
  return [f"--config.{key}={value}" for key, value in row["overrides"].items()]


def cells(table: Table, out: pathlib.Path) -> list[Cell]:
  """Returns the cells of a table, the first seed of all rows first.

  So a sweep that is stopped early has something of each row.
  """
  return [
    Cell(
      label=row["label"],
      seed=seed,
      argv=_argv(row, seed),
      folder=out / folder_of(row["label"]),
    )
    for seed in table["seeds"]
    for row in table["rows"]
  ]


def _argv(row: Table, seed: int) -> tuple[str, ...]:
  """Returns the flags of `ganjax.main` that make the config of a cell."""
  return (
    f"--config={row['experiment']}",
    *flags(row),
    f"--config.seed={seed}",
  )


def check(cells: Sequence[Cell]) -> dict[Cell, Any]:
  """Returns the resolved config of each cell, as JSON has it.

  Raises:
    UserError: the config of a row is wrong, or two cells have the same one.
  """
  found: dict[Cell, Any] = {}
  for cell in cells:
    try:
      found[cell] = cell.config()
    except errors.UserError as error:
      raise errors.UserError(f"row {cell.label!r}: {error}") from error
  seen: dict[str, Cell] = {}
  for cell, config in found.items():
    other = seen.setdefault(str(config), cell)
    if other is not cell:
      raise errors.UserError(
        f"rows {other.label!r} and {cell.label!r} are the same run"
      )
  return found
