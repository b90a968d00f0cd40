"""Precision, recall, density and coverage by nearest neighbours."""

from collections.abc import Iterator

import numpy as np

from ganjax import errors
from ganjax.data import cache
from ganjax.evaluation import metrics

# So many distances are in memory at a time: 64 MiB of them.
BLOCK = 2**23


@metrics.register(
  on="features",
  better={
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
  },
  formats={
    "precision": ".3f",
    "recall": ".3f",
    "density": ".3f",
    "coverage": ".3f",
  },
)
def prdc(k: int = 5) -> metrics.Metric:
  """Returns the four scores of overlapping neighbourhoods.

  The ball of a sample ends at its k-th nearest neighbour within its own set,
  itself not counted. Precision is the share of fakes in the ball of any real,
  recall the share of reals in the ball of any fake: Kynkäänniemi et al. 2019,
  section 2. Density is the number of real balls that hold a fake, over k, as
  a mean over fakes, and may exceed 1; coverage is the share of reals whose
  ball holds a fake: Naeem et al. 2020, section 3.

  A sample on the border of a ball is outside, as in Naeem's code; in that of
  Kynkäänniemi it is inside. So a ball of radius 0, that of a sample with k or
  more duplicates, is empty.

  Args:
    k: which neighbour. 5 as in Naeem et al. 2020; Kynkäänniemi et al. took 3.

  Returns:
    `metric(real [N, d], fake [M, d])` with the values `precision`, `recall`,
    `density` and `coverage`. Its flags: "constant", all balls of one set have
    the radius 0; "float64 resolution", a hundredth of the radii or more are
    above 0, but not by much more than rounding. Compare only equal `num_real`
    and equal `num_fake`: the balls shrink as these grow.

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
    real, fake = _centred(real, fake)
    real_radii, real_flags = _radii(real, k, "prdc: neighbours of the reals")
    fake_radii, fake_flags = _radii(fake, k, "prdc: neighbours of the fakes")

    held = np.zeros(len(fake), int)  # How many real balls hold each fake.
    recalled = np.zeros(len(real), bool)  # Does any fake ball hold the real?
    covered = np.zeros(len(real), bool)  # Does the real's ball hold any fake?
    text = "prdc: precision and recall"
    for rows, squares in _squared_distances(real, fake, text):
      in_real = squares < real_radii[rows, None]
      held += in_real.sum(axis=0)
      covered[rows] = in_real.any(axis=1)
      recalled[rows] = (squares < fake_radii).any(axis=1)
    values = {
      "precision": float(np.mean(held > 0)),
      "recall": float(np.mean(recalled)),
      "density": float(np.mean(held) / k),
      "coverage": float(np.mean(covered)),
    }
    flags = sorted(real_flags | fake_flags)
    return metrics.Record(values, protocol, tuple(flags))

  return metric


def _centred(
  real: np.ndarray, fake: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns both sets moved and scaled alike: common mean 0, values near 1.

  The scale is a power of 2, which rounds nothing. With it no square of a
  float64 overflows, and without a common offset products round little.
  """
  both = np.concatenate([real, fake])
  both = np.ldexp(both, -np.frexp(np.abs(both).max())[1])
  both -= both.mean(axis=0)
  return both[: len(real)], both[len(real) :]


def _radii(x: np.ndarray, k: int, text: str) -> tuple[np.ndarray, set[str]]:
  """Returns the squared distance to the k-th neighbour, and what is doubtful.

  The distance is made smaller by what rounding may add to it. So a sample on
  the border, at the distance of the radius, is outside in whatever order its
  products are summed, and a radius that should be 0 is exactly 0.

  Args:
    x: float64 `[N, d]`.
    k: which neighbour.
    text: what a progress bar says.

  Returns:
    float64 `[N]`, and flags: see `prdc`.
  """
  radii = np.empty(len(x))
  for rows, squares in _squared_distances(x, x, text):
    # Itself by its number, not by a distance of 0: duplicates are neighbours.
    np.fill_diagonal(squares[:, rows], np.inf)
    radii[rows] = np.partition(squares, k - 1, axis=1)[:, k - 1]
  # The error of a product of d terms grows as sqrt(d) if that of each term is
  # random. No |y|^2 within the ball is above 2 (|x|^2 + radius).
  norms = np.einsum("nd,nd->n", x, x)
  eps = np.finfo(np.float64).eps
  rounding = 8 * eps * max(4.0, x.shape[1] ** 0.5) * (norms + radii)
  flags = set()
  if (radii <= rounding).all():
    flags.add("constant")
  doubtful = (radii > rounding) & (radii < 16 * rounding)
  if np.mean(doubtful) >= 0.01:
    flags.add("float64 resolution")
  return np.maximum(radii - rounding, 0), flags


def _squared_distances(
  x: np.ndarray, y: np.ndarray, text: str
) -> Iterator[tuple[slice, np.ndarray]]:
  """Yields squared distances of some rows of `x` at a time to all of `y`.

  Args:
    x: float64 `[N, d]`.
    y: float64 `[M, d]`.
    text: what a progress bar says.

  Yields:
    Which R rows these are, and their squared distances `[R, M]`.
  """
  x_squares = np.einsum("nd,nd->n", x, x)
  y_squares = np.einsum("nd,nd->n", y, y)
  step = max(1, BLOCK // len(y))
  starts = range(0, len(x), step)
  for start in cache.track(starts, len(starts), text):
    rows = slice(start, start + step)
    # |x - y|^2 = |x|^2 + |y|^2 - 2 x . y, all but the product in its memory.
    squares = (-2 * x[rows]) @ y.T
    squares += x_squares[rows, None]
    squares += y_squares
    yield rows, np.maximum(squares, 0, out=squares)
