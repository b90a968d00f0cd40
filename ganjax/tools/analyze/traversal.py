"""One number of z changed, all others kept: what each stands for.

Rows are those components of z that change images most. Where latents have a
meaning of their own (`System.traverse`), as those of InfoGAN (Chen et al. 2016,
figure 2), they are the rows instead.
"""

import math
import pathlib
from typing import Any

import numpy as np

from ganjax.runs import plots
from ganjax.tools.analyze import pages
from ganjax.tools.analyze.subject import Subject, flat

ROWS, COLUMNS = 10, 10
SHOWN, NUM_BASES = 2, 4  # Latents that are changed: in the picture, in all.
AT_ONCE = 8  # Components whose images are made together.
# How far components go: for a normal z to where it is rare, or to its ends.
LIMIT, LIMITS = 2.0, {"uniform": math.sqrt(3.0)}


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
  squares = np.square(changes, dtype=np.float64)
  total = np.square(squares).sum()
  return float(np.square(squares.sum()) / total) if total else 0.0


def draw(subject: Subject, path: pathlib.Path) -> tuple[str, dict[str, Any]]:
  """Draws rows of images for each of two latents, beside each other.

  Batch norm takes its running statistics, whatever the run's samples take.
  """
  subject.need_images()
  bases = subject.run.latents(NUM_BASES, subject.seed)
  traverse = getattr(subject.run.sampler.system, "traverse", None)
  if traverse is None:
    names, rows, numbers = _components(subject, bases)
    text = f"{numbers['effective']:.3g} of {bases.shape[1]} components of z "
    text += "matter; rows are those that change images most"
  else:
    names, rows, numbers = _codes(subject, [traverse(z) for z in bases])
    text = "what single codes do; they change pixels by "
    text += ", ".join(f"{x:.3f} ({k})" for k, x in numbers["changes"].items())
  width = max(x.shape[1] for x in rows)
  blocks = []
  for i in range(SHOWN):
    images = np.concatenate([_pad(x[i], width) for x in rows])
    title = f"Latent {i + 1}, one number changed"
    blocks.append(pages.Block(title, images, width, () if i else names))
  plots.save(path, pages.blocks(blocks)[0])
  return text, numbers


def _components(subject: Subject, bases: np.ndarray):
  """Returns names, images and numbers of the components that change most."""
  limit = LIMITS.get(subject.run.config.system.get("latent"), LIMIT)
  ends, values = np.array([-limit, limit]), np.linspace(-limit, limit, COLUMNS)
  every, changes = range(bases.shape[1]), []
  for start in range(0, len(every), AT_ONCE):
    part = every[start : start + AT_ONCE]
    images = _decode(subject, [[vary(z, i, ends) for z in bases] for i in part])
    changes += map(change, images)
  chosen = np.argsort(-np.array(changes), kind="stable")[:ROWS]
  rows = [[vary(z, i, values) for z in bases] for i in chosen]
  names = [f"z {i}: {changes[i]:.3f}" for i in chosen]
  effective = effective_number(np.array(changes))
  numbers = {"limit": limit, "effective": effective, "changes": changes}
  return names, list(_decode(subject, rows)), numbers


def _codes(subject: Subject, ways: list[dict[str, Any]]):
  """Returns names, images and numbers of the ways to change each base."""
  rows = [_decode(subject, [[way[k] for way in ways]])[0] for k in ways[0]]
  changes = dict(zip(ways[0], map(change, rows), strict=True))
  names = [f"{name}: {x:.3f}" for name, x in changes.items()]
  return names, rows, {"changes": changes}


def _decode(subject: Subject, z: list) -> np.ndarray:
  """Returns images `[R, B, k, ...]` of `z [R, B, k, z_dim]`, B as of bases."""
  rows = np.asarray(z, np.float32)
  labels = subject.labels(rows.shape[1])  # A base stays within one class.
  if labels is not None:
    labels = np.broadcast_to(labels[:, None], rows.shape[:3]).reshape(-1)
  images = subject.run.decode(rows.reshape(-1, rows.shape[-1]), labels)
  return images.reshape(*rows.shape[:3], *images.shape[1:])


def _pad(images: np.ndarray, width: int) -> np.ndarray:
  """Returns a row `[k, ...]` with white images after it, `[width, ...]`."""
  rest = np.full((width - len(images), *images.shape[1:]), 255, images.dtype)
  return np.concatenate([images, rest])
