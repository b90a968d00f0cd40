"""The pictures of a run, and the table that it ends with."""

import pathlib

import jax
import numpy as np

from ganjax import data
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import metrics, table
from ganjax.runs import curves, plots, scoring
from ganjax.runs.run import Run, load

# How many training images, or points, stand beside as many samples.
IMAGES_BESIDE = 64
POINTS_BESIDE = 2000


def show(
  run: Run, evaluator: evaluate.Evaluator | None, train: data.Arrays
) -> None:
  """Draws and scores a run, and prints the table and the paths.

  Args:
    run: trained.
    evaluator: of its dataset; None for no scores.
    train: its training split.
  """
  test = evaluator.test if evaluator else train
  paths = figures(run, train.images, test)
  if evaluator is not None:
    table.show(scores(run, evaluator), evaluator)
  for name, path in paths.items():
    print(f"{name:20} {path}")


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
  paths = {}
  snapshots = _snapshots(run)
  if snapshots:  # A full disk may have taken them.
    paths["samples over time"] = folder / "samples_over_time.png"
    plots.over_time(paths["samples over time"], snapshots)
  most = IMAGES_BESIDE if real.dtype == np.uint8 else POINTS_BESIDE
  count = min(most, len(real))
  # From all over the set: a folder of classes begins with one class alone.
  spread = np.linspace(0, len(real) - 1, count).astype(int)
  paths["samples beside real"] = folder / "samples_and_real.png"
  plots.beside_real(
    paths["samples beside real"], run.sample(count), np.asarray(real[spread])
  )
  paths["curves"] = folder / "curves.png"
  curves.draw(paths["curves"], run.history())
  if "reconstruct" in run.sampler.abilities(run.state):
    paths["reconstructions"] = folder / "reconstructions.png"
    some = jax.tree.map(lambda x: np.asarray(x[:count]), test)
    plots.beside_real(
      paths["reconstructions"],
      run.apply("reconstruct", some.images, some.labels),
      some.images,
      title="Reconstructed",
    )
  return paths


def scores(
  run: Run, evaluator: evaluate.Evaluator
) -> dict[str, dict[str, metrics.Record]]:
  """Returns who was scored -> metric -> record; writes `evaluation.json`.

  The last state stands beside the best one that is kept. Held-out real images
  and noise stand below, as the two ends of the scale.

  Args:
    run: its last state.
    evaluator: of its dataset.
  """
  specs = run.config.evals.to_dict()
  states = {"last": run}
  if run.config.checkpoint.best:
    states["best"] = load(run.workdir, "best")
  rows = {
    who: scoring.score(evaluator, scoring.of_run(state), specs, run.workdir)
    for who, state in states.items()
  }
  rows.update(scoring.anchors(evaluator, specs, run.workdir))
  table.write(run.workdir / "evaluation.json", rows)
  return rows


def snapshot(workdir: pathlib.Path, step: int, images: np.ndarray) -> None:
  """Writes what the fixed latents are at `step`: an array and a picture.

  Raises:
    OSError: a file cannot be written.
  """
  folder = workdir / "samples"
  folder.mkdir(exist_ok=True)
  np.save(folder / f"{step:08d}.npy", images)
  plots.samples(folder / f"{step:08d}.png", images, f"step {step}")


def _snapshots(run: Run) -> list[tuple[int, np.ndarray]]:
  """Returns (step, images) of what `snapshot` wrote, up to the run's step."""
  found = []
  for path in sorted((run.workdir / "samples").glob("*.npy")):
    step = int(path.stem)
    # Later ones are of a run that has gone on since this checkpoint.
    if step <= run.step:
      found.append((step, np.load(path)))
  return found
