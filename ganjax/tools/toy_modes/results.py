"""What the runs of the table found, as plain data."""

import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from ganjax import errors
from ganjax.runs import configs
from ganjax.runs import scoring as sources
from ganjax.tools.compare import runs
from ganjax.tools.sweep import tables
from ganjax.tools.sweep.cell import DIVERGED, OVER, Cell

TABLE = "toy_modes"
NAMED = 3  # of the runs that are missing; the others are counted
PRIVATE = ("command", "platform", "time")  # Paths, a machine's name, a moment.

Samples = dict[tuple[str, str], np.ndarray]


def read(folder: pathlib.Path, smoke: bool) -> tuple[dict[str, Any], Samples]:
  """Returns what a page says, and what it draws.

  Args:
    folder: of the sweep.
    smoke: whether it was one of the table's smoke form.

  Returns:
    A document that JSON takes, and (dataset, setting) -> float `[N, 2]`, the
    last samples of the runs with the first seed; one that diverged has none.

  Raises:
    UserError: runs are missing, or one cannot be read.
  """
  spec = f"{TABLE}:smoke" if smoke else TABLE
  out = shlex.quote(str(folder))
  sweep = f"python -m ganjax.sweep {spec} --jobs 2 --out {out}"
  table = tables.load(spec)
  cells = tables.cells(table, folder)
  outcomes = _outcomes(cells, sweep)
  found, _ = runs.read([cell.workdir for cell in cells])
  results, environments, samples = [], [], {}
  for cell, run in zip(cells, found, strict=True):
    results.append(_result(cell, run, *outcomes[cell]))
    if "modes" in results[-1] and cell.seed == table["seeds"][0]:
      samples[_place(cell.label)] = _last_samples(cell.workdir)
    environment = {k: v for k, v in run.environment.items() if k not in PRIVATE}
    if environment and environment not in environments:
      environments.append(environment)
  rows = {_place(row["label"]): row for row in table["rows"]}
  flags = {title: tables.flags(row) for (_, title), row in rows.items()}
  plain = {
    kind: configs.resolve(configs.load(row["experiment"]))
    for (kind, _), row in rows.items()
  }
  document = dict(
    sweep=sweep,
    default=not smoke,
    seeds=list(table["seeds"]),
    settings=[dict(title=k, flags=v) for k, v in flags.items()],
    protocol={kind: config.to_dict() for kind, config in plain.items()},
    environments=environments,
    real={kind: _real(config) for kind, config in plain.items()},
    runs=results,
  )
  return document, samples


def _place(label: str) -> tuple[str, str]:
  """Returns (dataset, setting) of a row."""
  kind, _, title = label.partition(": ")
  return kind, title


def _outcomes(cells: Sequence[Cell], sweep: str) -> dict[Cell, tuple[str, str]]:
  """Returns (state, note) of each cell, all of which have to be over."""
  wanted = tables.check(cells)
  result = {cell: cell.outcome(wanted[cell]) for cell in cells}
  missing = [c.name for c, (state, _) in result.items() if state not in OVER]
  if missing:
    more = len(missing) - NAMED
    names = missing[:NAMED] + [f"{more} more"] * (more > 0)
    raise errors.UserError(
      f"{len(missing)} of {len(cells)} runs are missing ({'; '.join(names)}); "
      f"this trains them: {sweep}"
    )
  return result


def _result(cell: Cell, run: runs.Run, state: str, note: str) -> dict[str, Any]:
  """Returns what one run found."""
  kind, title = _place(cell.label)
  row = dict(dataset=kind, setting=title, seed=cell.seed)
  if state == DIVERGED:
    return row | dict(state=state, note=note)
  record = run.records.get(runs.LAST, {}).get("modes")
  if record is None:
    raise errors.UserError(
      f"{cell.name}: no score of its modes; this makes it: "
      f"python -m ganjax.evaluate {shlex.quote(str(cell.workdir))}"
    )
  said = [row.get("diagnosis") for row in run.rows if "d_loss" in row][-1:]
  return row | dict(
    state="".join(filter(None, said)) or "none", **record.values
  )


def _last_samples(workdir: pathlib.Path) -> np.ndarray:
  """Returns those that a run drew at its last step, float `[N, 2]`."""
  files = sorted((workdir / "samples").glob("*.npy"))
  if not files:
    raise errors.UserError(f"{workdir}/samples holds no samples")
  return np.load(files[-1])


def _real(config: configs.Config) -> dict[str, float]:
  """Returns the values of held-out data, the best that samples can reach."""
  scores = sources.evaluator_of(config)
  return scores.compare({"modes": {}}, scores.test.images)["modes"].values
