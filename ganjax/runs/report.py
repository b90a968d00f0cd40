"""The pictures of a run, and the table that it ends with."""

import pathlib

import jax
import numpy as np

from ganjax import data
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import metrics, table
from ganjax.runs import curves, plots
from ganjax.runs import scoring as sources
from ganjax.runs.run import Run, load

# How many training images stand beside as many samples.
BESIDE = 64


def snapshot(workdir: pathlib.Path, step: int, images: np.ndarray) -> None:
  """Writes what the fixed latents are at `step`: an array and a picture."""
  folder = workdir / "samples"
  folder.mkdir(exist_ok=True)
  np.save(folder / f"{step:08d}.npy", images)
  plots.samples(folder / f"{step:08d}.png", images, f"step {step}")


def figures(
  run: Run, real: np.ndarray, test: data.Arrays
) -> dict[str, pathlib.Path]:
  """Draws the run's figures; returns what each shows -> its file.

  Args:
    run: trained.
    real: training images.
    test: what a system that reconstructs is shown.
  """
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
  if snapshots:
    plots.over_time(paths["samples over time"], snapshots)
  else:  # A full disk may have taken them.
    del paths["samples over time"]
  count = min(BESIDE if real.dtype == np.uint8 else 2000, len(real))
  # From all over the set: a folder of classes begins with one class alone.
  spread = np.linspace(0, len(real) - 1, count).astype(int)
  plots.beside_real(
    paths["samples beside real"], run.sample(count), np.asarray(real[spread])
  )
  if run.sampler.system.reconstruct:
    paths["reconstructions"] = folder / "reconstructions.png"
    some = jax.tree.map(lambda x: np.asarray(x[:count]), test)
    rebuilt = run.reconstruct(some.images, some.labels)
    path, title = paths["reconstructions"], "Reconstructed"
    plots.beside_real(path, rebuilt, some.images, title)
  curves.draw(paths["curves"], run.history())
  return paths


def scores(
  run: Run, evaluator: evaluate.Evaluator
) -> dict[str, dict[str, metrics.Record]]:
  """Returns who was scored -> metric -> record; writes `evaluation.json`.

  The last state stands beside the best one that is kept, held-out real images
  and noise below.
  """
  specs, folder = run.config.evals.to_dict(), run.workdir
  states = {"last": run}
  if run.config.checkpoint.best:
    states["best"] = load(folder, "best")
  rows = {
    who: sources.score(evaluator, sources.of_run(state), specs, folder)
    for who, state in states.items()
  }
  rows |= sources.anchors(evaluator, specs, folder)
  table.write(folder / "evaluation.json", rows)
  return rows


def show(
  run: Run, evaluator: evaluate.Evaluator | None, train: data.Arrays
) -> None:
  """Draws and scores a run, and prints the table and the paths."""
  test = evaluator.test if evaluator else train
  paths = figures(run, train.images, test)
  if evaluator is not None:
    table.show(scores(run, evaluator), evaluator)
  for name, path in paths.items():
    print(f"{name:20} {path}")
