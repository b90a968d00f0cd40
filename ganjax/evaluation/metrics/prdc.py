"""Precision, recall, density and coverage by nearest neighbours."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import errors
from ganjax.data import cache
from ganjax.evaluation import metrics

ON = "features"
BETTER = {
  "precision": "higher",
  "recall": "higher",
  "density": "higher",
  "coverage": "higher",
}
# The distances of so many rows to so many columns at a time: with the k best
# of each of them they stay in the cache of a CPU's core.
ROWS, COLUMNS = 1024, 64
GRID = 2.0**11


class Points(NamedTuple):
  """Samples `x = coarse + fine` of norm 1 at most, split to round little.

  The coarse coordinates are multiples of 1 / GRID, so that float32 holds
  products of them, and sums of these, exactly. What is left to round is as
  small as the fine ones are: 2^11 / sqrt(d) times less than in |x|^2.

  Attributes:
    coarse: float32 `[N, d]`.
    fine: float32 `[N, d]`.
    coarse_squares: `|coarse|^2`, float32 `[N]`.
    fine_squares: `|x|^2 - |coarse|^2`, float32 `[N]`.
  """

  coarse: Any
  fine: Any
  coarse_squares: Any
  fine_squares: Any


def prdc(k: int = 5) -> metrics.Metric:
  """Returns the four scores of overlapping neighbourhoods.

  The ball of a sample ends at its k-th nearest neighbour within its own set,
  itself not counted. Precision is the share of fakes in the ball of any real,
  recall the share of reals in the ball of any fake: Kynkäänniemi et al. 2019,
  section 2. Density is the number of real balls that hold a fake, over k, as
  a mean over fakes, and may exceed 1; coverage the share of reals whose ball
  holds a fake: Naeem et al. 2020, section 3.

  A sample on the border of a ball is outside, as in Naeem's code; in that of
  Kynkäänniemi it is inside. So a ball of radius 0, that of a sample with k or
  more duplicates, is empty. Distances are those of float32 features whose
  common mean was subtracted.

  Args:
    k: which neighbour. 5 as in Naeem et al. 2020; Kynkäänniemi et al. took 3.

  Returns:
    `metric(real [N, d], fake [M, d])` with the values `precision`, `recall`,
    `density` and `coverage`. Its flags: "constant", all balls of one set have
    radius 0 but for rounding; "float32 resolution", a hundredth of the radii
    or more are above 0, but not by much more than rounding. Compare only equal
    `num_real` and equal `num_fake`: the balls shrink as these grow.

  Raises:
    UserError: k is below 1; when called with k samples or fewer, or with
      non-finite ones.
  """
  if k < 1:
    raise errors.UserError(f"prdc: k is {k}, it must be at least 1")

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("prdc", real, fake, min_samples=k + 1)
    protocol: dict[str, object] = {
      "num_real": len(real),
      "num_fake": len(fake),
      "dims": real.shape[1],
      "k": k,
    }
    points = _points(real, fake)
    radii, flags = [], set()
    for name, x in zip(("reals", "fakes"), points, strict=True):
      radius, rounding = _radii(x, k, name), _rounding(x)
      radius = np.where(radius > rounding, radius, 0)
      radii.append(radius)
      if not radius.any():
        flags.add("constant")
      if np.mean((radius > 0) & (radius < 16 * rounding)) >= 0.01:
        flags.add("float32 resolution")
    held, recalled, covered = _overlap(*points, *radii)
    values = {
      "precision": float(np.mean(held > 0)),
      "recall": float(np.mean(recalled)),
      "density": float(np.mean(held) / k),
      "coverage": float(np.mean(covered)),
    }
    return metrics.Record(values, protocol, tuple(sorted(flags)))

  return metric


def _points(real: np.ndarray, fake: np.ndarray) -> tuple[Points, Points]:
  """Returns both sets, moved and scaled alike: mean 0, norms up to 1.

  They are scaled by powers of 2, which round nothing and are never 0.
  """
  both = np.concatenate([real, fake])
  # By the largest value first: no square of any float64 overflows.
  both = np.ldexp(both, -np.frexp(np.abs(both).max())[1])
  both -= both.mean(axis=0)
  norm = np.sqrt(np.einsum("nd,nd->n", both, both).max())
  both = np.ldexp(both, -np.frexp(norm)[1])
  coarse = np.rint(both * GRID) / GRID
  squares = np.einsum("nd,nd->n", coarse, coarse)
  points = Points(
    coarse, both - coarse, squares, np.einsum("nd,nd->n", both, both) - squares
  )
  points = Points(*(array.astype(np.float32) for array in points))
  num = len(real)
  return Points(*(a[:num] for a in points)), Points(*(a[num:] for a in points))


def _rounding(x: Points) -> np.ndarray:
  """Returns what squared distances near each of `[N]` may be off by, `[N]`.

  A bound with room of the error of the products, which grows as sqrt(d) if
  that of each term is random.
  """
  eps = np.finfo(np.float32).eps * max(4.0, np.sqrt(x.fine.shape[1]))
  norm = np.sqrt(x.coarse_squares)
  return eps * (4 * norm * np.linalg.norm(x.fine, axis=1))


def _radii(x: Points, k: int, name: str) -> np.ndarray:
  """Returns the squared distance to the k-th neighbour, float32 `[N]`."""
  tiles = _tiles(x)
  blocks = _blocks(x, f"prdc: neighbours of the {name}")
  radii = [np.asarray(_kth(rows, start, tiles, k)) for start, rows in blocks]
  return np.concatenate(radii)[: len(x.coarse)]


def _overlap(
  real: Points, fake: Points, real_radii: np.ndarray, fake_radii: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Compares every real with every fake, once.

  Args:
    real: N of them.
    fake: M of them.
    real_radii: squared, `[N]`.
    fake_radii: squared, `[M]`.

  Returns:
    How many real balls hold each fake, int `[M]`; whether any fake ball holds
    each real, and whether each real ball holds any fake, bool `[N]`.
  """
  tiles = _tiles(fake), _padded(fake_radii, COLUMNS).reshape(-1, COLUMNS)
  held, by_row = 0, []
  for start, rows in _blocks(real, "prdc: precision and recall"):
    # A row of padding has the radius 0, which holds nothing.
    radii = _padded(real_radii[start : start + ROWS], ROWS)
    counts, *row_out = jax.device_get(_compare(rows, radii, *tiles))
    held = held + counts
    by_row.append(row_out)
  recalled, covered = np.concatenate(by_row, axis=1)[:, : len(real_radii)]
  return np.ravel(held)[: len(fake_radii)], recalled, covered


@functools.partial(jax.jit, static_argnames="k")
def _kth(rows: Points, start: jax.Array, tiles: Points, k: int) -> jax.Array:
  """Returns each row's k-th smallest squared distance to other columns.

  Args:
    rows: R of them.
    start: the number of the first row among the columns.
    tiles: all samples, see `_tiles`.
    k: which neighbour.

  Returns:
    `[R]`.
  """
  shape = len(rows.coarse), tiles.coarse.shape[-1]
  row = start + jax.lax.broadcasted_iota(jnp.int32, shape, 0)
  column = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
  # Each pair (row, column of a tile) keeps the k smallest of what it meets,
  # in order: that takes k minima a distance, and sorts nothing.
  none = jnp.full((1, *shape), -jnp.inf)

  def insert(carry, tile):
    first, best = carry
    # Itself by its number, not by a distance of 0: duplicates are neighbours.
    new = jnp.where(row == first + column, jnp.inf, _distances(rows, tile))
    below = jnp.concatenate([none, best[:-1]])
    best = jnp.minimum(best, jnp.maximum(below, new[None]))
    return (first + shape[1], best), None

  best = jnp.full((k, *shape), jnp.inf)
  (_, best), _ = jax.lax.scan(insert, (jnp.int32(0), best), tiles)
  best = jnp.swapaxes(best, 0, 1).reshape(shape[0], -1)
  return -jax.lax.top_k(-best, k)[0][:, -1]


@jax.jit
def _compare(
  rows: Points, row_radii: jax.Array, tiles: Points, radii: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns what `_overlap` does, of R reals against all fakes.

  Args:
    rows: R reals.
    row_radii: `[R]`, squared.
    tiles: the fakes, see `_tiles`.
    radii: `[T, C]`, squared, of the fakes.
  """

  def compare(carry, columns):
    recalled, covered = carry
    tile, radii = columns
    distances = _distances(rows, tile)
    in_real = distances < row_radii[:, None]
    recalled |= jnp.any(distances < radii[None], axis=1)
    covered |= jnp.any(in_real, axis=1)
    return (recalled, covered), jnp.sum(in_real, axis=0, dtype=jnp.int32)

  none = jnp.zeros(len(row_radii), bool)
  (recalled, covered), held = jax.lax.scan(
    compare, (none, none), (tiles, radii)
  )
  return held, recalled, covered


def _distances(rows: Points, columns: Points) -> jax.Array:
  """Returns squared distances `[R, C]` of rows `[R, d]`, columns `[d, C]`."""

  def dot(a, b):
    return jnp.matmul(a, b, precision="highest")

  def outer_sum(a, b):
    return a[:, None] + b[None]

  # Symmetric to the last bit, or a tie would depend on which is the row.
  mixed = dot(rows.coarse, columns.fine) + dot(rows.fine, columns.coarse)
  fine = outer_sum(rows.fine_squares, columns.fine_squares)
  fine -= 2 * (mixed + dot(rows.fine, columns.fine))
  coarse = outer_sum(rows.coarse_squares, columns.coarse_squares)
  coarse -= 2 * dot(rows.coarse, columns.coarse)
  return jnp.maximum(coarse + fine, 0)


def _blocks(x: Points, text: str) -> Iterator[tuple[int, Points]]:
  """Yields ROWS rows at a time, after the number of the first."""
  starts = range(0, len(x.coarse), ROWS)
  for start in cache.track(starts, len(starts), text):
    yield start, Points(*(_padded(a[start : start + ROWS], ROWS) for a in x))


def _tiles(x: Points) -> Points:
  """Returns the samples as T tiles, `[T, d, C]` and `[T, C]`."""
  coarse, fine = (
    jnp.asarray(_padded(a, COLUMNS).reshape(-1, COLUMNS, a.shape[1])).mT
    for a in (x.coarse, x.fine)
  )
  # Padding is infinitely far from everything.
  coarse_squares, fine_squares = (
    jnp.asarray(_padded(a, COLUMNS, fill).reshape(-1, COLUMNS))
    for a, fill in ((x.coarse_squares, np.inf), (x.fine_squares, 0))
  )
  return Points(coarse, fine, coarse_squares, fine_squares)


def _padded(x: np.ndarray, multiple: int, fill: float = 0) -> np.ndarray:
  """Returns `x` with `fill` behind, until its length is a `multiple`."""
  pad = [(0, -len(x) % multiple)] + [(0, 0)] * (x.ndim - 1)
  return np.pad(x, pad, constant_values=fill)
