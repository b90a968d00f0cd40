"""The pictures of a run, and the table that it ends with."""

import pathlib
from typing import Any

import numpy as np

from ganjax import curves, evaluate, logs, plots
from ganjax.run import Run

# How many training images stand beside as many samples.
BESIDE = 64
# Values of the table that are not rounded to three digits: counts, a share.
FORMATS = dict.fromkeys(
  "classes_covered classes modes_covered modes".split(), "{:.0f}"
) | {"high_quality": "{:.3f}"}


def snapshot(workdir: pathlib.Path, step: int, images: np.ndarray) -> None:
  """Writes what the fixed latents are at `step`: an array and a picture."""
  folder = workdir / "samples"
  folder.mkdir(exist_ok=True)
  np.save(folder / f"{step:08d}.npy", images)
  plots.samples(folder / f"{step:08d}.png", images, f"step {step}")


def figures(run: Run, real: np.ndarray) -> dict[str, pathlib.Path]:
  """Draws the run's figures; returns what each shows -> its file."""
  folder = run.workdir / "figures"
  folder.mkdir(exist_ok=True)
  paths = {
    "samples over time": folder / "samples_over_time.png",
    "samples beside real": folder / "samples_and_real.png",
    "curves": folder / "curves.png",
  }
  files = sorted((run.workdir / "samples").glob("*.npy"))
  snapshots = [(int(f.stem), np.load(f)) for f in files]
  snapshots = [(step, x) for step, x in snapshots if step <= run.step]
  plots.over_time(paths["samples over time"], snapshots)
  count = min(BESIDE if real.dtype == np.uint8 else 2000, len(real))
  plots.beside_real(
    paths["samples beside real"], run.sample(count), np.asarray(real[:count])
  )
  curves.draw(paths["curves"], run.history())
  return paths


def scores(run: Run, evaluator: evaluate.Evaluator) -> dict[str, dict]:
  """Returns who was scored -> metric -> record; writes `evaluation.json`.

  Held-out real images and noise stand beside the samples, since a distance
  says something only on a scale.
  """
  specs = run.config.evals.to_dict()
  held_out = evaluator.test.images
  rows = {
    "samples": evaluator.score(specs, run.sample),
    "held-out real": evaluator.compare(specs, held_out),
    "noise": evaluator.compare(specs, evaluate.noise(held_out)),
  }
  for record in rows["samples"].values():
    record.protocol.update(run.protocol())
  plain = {
    who: {name: record.to_dict() for name, record in records.items()}
    for who, records in rows.items()
  }
  logs.write_json(run.workdir / "evaluation.json", plain)
  return rows


def show(
  run: Run, evaluator: evaluate.Evaluator | None, real: np.ndarray
) -> None:
  """Draws and scores a run, and prints the table and the paths."""
  from rich import box, console, table

  out = console.Console(highlight=False)
  paths: dict[str, Any] = figures(run, real)
  if evaluator is not None:
    rows = scores(run, evaluator)
    cells = {who: _cells(records) for who, records in rows.items()}
    grid = table.Table("", *cells["samples"], box=box.SIMPLE_HEAD)
    for who, cell in cells.items():
      grid.add_row(who, *cell.values())
    out.print(grid)
    out.print(_protocol(evaluator, rows["samples"]), soft_wrap=True)
  for name, path in paths.items():
    out.print(f"{name:20} {path}", soft_wrap=True)


def _protocol(evaluator: evaluate.Evaluator, records) -> str:
  """Says what the table's numbers are measured against, and in what."""
  train, test = evaluator.train.images, evaluator.test.images
  kind = "points" if train.ndim == 2 else "images"
  text = f"against {len(train)} training {kind}"
  if any(r.protocol["extractor"] != "none" for r in records.values()):
    text += f", in the features of {evaluator.extractor.name} (test accuracy "
    text += f"{100 * evaluator.extractor.accuracy:.1f} %)"
  return f"{text}; {len(test)} held-out {kind}"


def _cells(records) -> dict[str, str]:
  """Returns the columns of a table's row: title -> text."""
  cells = {}
  for record in records.values():
    for name, value in record.values.items():
      cells[name.replace("_", " ")] = FORMATS.get(name, "{:.3g}").format(value)
  for name in ("classes", "modes"):
    if name in cells:  # A count says little without how many there are.
      cells[f"{name} covered"] += f" of {cells.pop(name)}"
  return cells
