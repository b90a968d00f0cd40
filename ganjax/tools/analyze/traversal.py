"""One number of z changed, all others kept: what each stands for.

The rows are the components of z that change images most. Where latents have a
meaning of their own (`System.traverse`), as those of InfoGAN (Chen et al. 2016,
figure 2), these are the rows instead.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from ganjax.runs import plots
from ganjax.tools.analyze import PICTURES, Drawn, Numbers, pages
from ganjax.tools.analyze.subject import Subject, flat

ROWS = 10
COLUMNS = 10
NUM_BASES = 4  # latents whose components are changed
NUM_SHOWN = 2  # those of them that the picture shows
AT_ONCE = 8  # components whose images are made together
# How far a component goes: a normal one to where it is rare; a uniform one has
# the variance 1, and so its ends at the root of 3.
LIMIT = 2.0
LIMITS = {"uniform": math.sqrt(3.0)}


def vary(z: np.ndarray, component: int, values: np.ndarray) -> np.ndarray:
  """Returns `z [z_dim]` with one component set to each of `values [k]`."""
  rows = np.repeat(z[None], len(values), axis=0)
  rows[:, component] = values
  return rows


def change(images: np.ndarray) -> float:
  """Returns how far images of a row differ, in units of white.

  Args:
    images: stored images `[B, k, ...]`: B rows, of one latent each.

  Returns:
    The root mean square distance of a pixel from its mean over the row.
  """
  rows = flat(images.reshape(-1, *images.shape[2:]))
  rows = rows.reshape(*images.shape[:2], -1)
  return float(np.sqrt(rows.var(axis=1).mean()))


def effective_number(changes: np.ndarray) -> float:
  """Returns how many of `changes [d]` matter: (sum c^2)^2 / sum c^4.

  It is d if all are alike and 1 if there is but one, 0 if nothing changes.
  """
  # The participation ratio of the variances c^2.
  squares = np.square(changes, dtype=np.float64)
  total = np.square(squares).sum()
  return float(np.square(squares.sum()) / total) if total else 0.0


@PICTURES.register(name="traversal")
def draw(subject: Subject, path: pathlib.Path) -> Drawn:
  """Draws rows of images for each of two latents, beside each other.

  Batch norm takes its running statistics, whatever the run's samples take.
  """
  subject.need_images()
  bases = subject.run.latents(NUM_BASES, subject.seed)
  traverse = getattr(subject.run.sampler.system, "traverse", None)
  if traverse is None:
    names, rows, numbers = _components(subject, bases)
    text = (
      f"{numbers['effective']:.3g} of {bases.shape[1]} components of z matter; "
      "rows are those that change images most"
    )
  else:
    names, rows, numbers = _codes(subject, [traverse(z) for z in bases])
    changes = [f"{x:.3f} ({k})" for k, x in numbers["changes"].items()]
    text = f"what single codes do; they change pixels by {', '.join(changes)}"
  width = max(images.shape[1] for images in rows)
  blocks = []
  for i in range(NUM_SHOWN):
    images = np.concatenate([_padded(row[i], width) for row in rows])
    title = f"Latent {i + 1}, one number changed"
    # The names of the rows stand once, at the very left.
    blocks.append(pages.Block(title, images, width, () if i else names))
  page, _ = pages.blocks(blocks)
  plots.save(path, page)
  return text, numbers


def _components(
  subject: Subject, bases: np.ndarray
) -> tuple[list[str], list[np.ndarray], Numbers]:
  """Returns names, images and numbers of the components that change most.

  Args:
    subject: the run.
    bases: the latents that are changed, `[B, z_dim]`.

  Returns:
    For each row its name and images `[B, k, ...]`; and the numbers of all.
  """
  limit = LIMITS.get(subject.run.config.system.get("latent"), LIMIT)
  ends = np.array([-limit, limit])
  every = range(bases.shape[1])
  changes: list[float] = []
  # All components are measured, by their two ends alone.
  for start in range(0, len(every), AT_ONCE):
    part = every[start : start + AT_ONCE]
    images = _decode(subject, [[vary(z, i, ends) for z in bases] for i in part])
    changes += map(change, images)
  # The few that change most are drawn, with what lies between.
  values = np.linspace(-limit, limit, COLUMNS)
  chosen = np.argsort(-np.array(changes), kind="stable")[:ROWS]
  rows = [[vary(z, i, values) for z in bases] for i in chosen]
  numbers = {
    "limit": limit,
    "effective": effective_number(np.array(changes)),
    "changes": changes,
  }
  names = [f"z {i}: {changes[i]:.3f}" for i in chosen]
  return names, list(_decode(subject, rows)), numbers


def _codes(
  subject: Subject, ways: Sequence[Mapping[str, np.ndarray]]
) -> tuple[list[str], list[np.ndarray], Numbers]:
  """Returns names, images and numbers of the codes that latents are made of.

  Args:
    subject: the run.
    ways: for each base, code -> latents `[k, z_dim]` in which it alone changes.
  """
  rows = [_decode(subject, [[way[k] for way in ways]])[0] for k in ways[0]]
  changes = dict(zip(ways[0], map(change, rows), strict=True))
  names = [f"{name}: {x:.3f}" for name, x in changes.items()]
  return names, rows, {"changes": changes}


def _decode(subject: Subject, z: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
  """Returns images `[R, B, k, ...]` of `z [R, B, k, z_dim]`, B as of bases."""
  rows = np.asarray(z, np.float32)
  labels = subject.labels(rows.shape[1])  # A base stays within one class.
  if labels is not None:
    labels = np.broadcast_to(labels[:, None], rows.shape[:3]).reshape(-1)
  images = subject.run.decode(rows.reshape(-1, rows.shape[-1]), labels)
  return images.reshape(*rows.shape[:3], *images.shape[1:])


def _padded(images: np.ndarray, width: int) -> np.ndarray:
  """Returns a row `[k, ...]` with white images after it, `[width, ...]`."""
  rest = np.full((width - len(images), *images.shape[1:]), 255, images.dtype)
  return np.concatenate([images, rest])
