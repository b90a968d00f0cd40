"""Paths between latents: figure 3 of Goodfellow et al. 2014, and its sphere.

Normal latents of many dimensions lie near a sphere that straight paths leave;
spherical paths (Shoemake 1985; White 2016, section 2) stay on it. Uniform
latents fill a cube: straight paths stay within it, spherical ones do not.
"""

import pathlib
from collections.abc import Mapping

import numpy as np

from ganjax import errors
from ganjax.runs import plots
from ganjax.tools.analyze import PICTURES, Drawn, pages
from ganjax.tools.analyze.subject import Subject

ROWS = 8
COLUMNS = 10
TITLES = {"linear": "Linear paths", "spherical": "Spherical paths"}


def lerp(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
  """Returns the points at `t` `[T]` of straight paths, `[..., T, d]`.

  Args:
    start: `[..., d]`, where t is 0.
    end: `[..., d]`, where t is 1.
    t: `[T]` in [0, 1]; the ends come out exactly.
  """
  t = t[:, None]
  return (1 - t) * start[..., None, :] + t * end[..., None, :]


def slerp(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
  """Returns the points at `t` of great circles: those of `lerp`, bent.

  `sin((1 - t) w) / sin(w) start + sin(t w) / sin(w) end`, w being the angle
  between the ends, whose norm all points have if both ends have it.

  Raises:
    UserError: ends of opposite directions, or at 0, where there is no one
      circle between them.
  """
  norms = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
  if not np.all(norms):
    raise errors.UserError("a spherical path needs ends other than 0")
  cosine = np.sum(start * end, axis=-1) / norms
  angle = np.arccos(np.clip(cosine, -1, 1))[..., None, None]
  if np.any(np.pi - angle < 1e-6):
    raise errors.UserError("a spherical path has no way between opposite ends")
  t = t[:, None]
  near = angle < 1e-6  # The circle is straight, and its sines are about 0.
  sine = np.where(near, 1, np.sin(angle))
  left = np.where(near, 1 - t, np.sin((1 - t) * angle) / sine)
  right = np.where(near, t, np.sin(t * angle) / sine)
  return left * start[..., None, :] + right * end[..., None, :]


def measure(z: np.ndarray, places: np.ndarray) -> dict[str, float]:
  """Returns how far paths leave their latents' norms, and how they jump.

  Args:
    z: latents along the paths, `[R, T, d]`.
    places: what G makes of them, `[R, T, k]`, in the space of distances.

  Returns:
    `middle_norm`: the mean norm in the middle over that of the ends.
    `largest_step`: the mean share that the largest of the T - 1 steps has of
      its path's length: 1 / (T - 1) for an even path, 1 for one jump.
  """
  norms = np.linalg.norm(z, axis=-1)
  middle = norms[:, [(z.shape[1] - 1) // 2, z.shape[1] // 2]].mean()
  steps = np.linalg.norm(np.diff(places, axis=1), axis=-1)
  length = steps.sum(axis=1)
  share = steps.max(axis=1) / np.where(length > 0, length, 1)
  return {
    "middle_norm": float(middle / norms[:, [0, -1]].mean()),
    "largest_step": float(share.mean()),
  }


@PICTURES.register(name="interpolation")
def draw(subject: Subject, path: pathlib.Path) -> Drawn:
  """Draws the same pairs of latents and what lies between, in both ways.

  Batch norm takes its running statistics, whatever the run's samples take.
  """
  run = subject.run
  ends = run.latents(2 * ROWS, subject.seed).astype(np.float64)
  ends = ends.reshape(2, ROWS, -1)
  uniform = run.config.system.get("latent") == "uniform"
  ways = {"linear": lerp} if uniform else {"linear": lerp, "spherical": slerp}
  labels = subject.labels(ROWS)
  if labels is not None:  # A path stays within one class.
    labels = np.repeat(labels, COLUMNS)
  images = {}
  numbers = {}
  for name, way in ways.items():
    z = way(ends[0], ends[1], np.linspace(0, 1, COLUMNS))
    rows = z.reshape(ROWS * COLUMNS, -1)
    images[name] = run.decode(rows.astype(np.float32), labels)
    places = subject.coordinates(images[name]).reshape(ROWS, COLUMNS, -1)
    numbers[name] = measure(z, places)
  if subject.is_points:
    _draw_points(path, subject, images)
  else:
    parts = [
      pages.Block(TITLES[name], x, COLUMNS) for name, x in images.items()
    ]
    page, _ = pages.blocks(parts)
    plots.save(path, page)
  shares = [f"{100 * x['largest_step']:.0f} %" for x in numbers.values()]
  text = (
    f"paths between latents; the largest of {COLUMNS - 1} steps is "
    f"{' and '.join(shares)} of a path ({', '.join(ways)})"
  )
  if uniform:
    text += "; spherical ones would leave the cube of uniform latents"
  return text, numbers


def _draw_points(
  path: pathlib.Path, subject: Subject, images: Mapping[str, np.ndarray]
) -> None:
  """Draws paths of points as lines over the data."""
  page = plots.figure(480 * len(images), 500)
  real = subject.batches["train"].images
  for i, (name, points) in enumerate(images.items()):
    axes = page.add_subplot(1, len(images), i + 1)
    plots.style(axes, f"{TITLES[name]} between latents")
    pages.scatter(axes, real, plots.GREY, alpha=0.25)
    for row in points.reshape(ROWS, COLUMNS, 2):
      axes.plot(*row.T, "o-", color=plots.ORANGE, lw=0.9, ms=2.2, alpha=0.8)
  page.tight_layout()
  plots.save(path, page)
