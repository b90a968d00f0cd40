"""How far apart the samples are from each other, beside how far the reals."""

import numpy as np

from ganjax import errors
from ganjax.evaluation import metrics

BLOCK = 10**6  # Numbers at a time.


# No value has a direction: fakes should be as far apart as the reals are, not
# farther.
@metrics.register(on="features")
def pairwise_distance(num_pairs: int = 10_000) -> metrics.Metric:
  """Returns the mean L2 distance of random pairs, a plain test for collapse.

  Args:
    num_pairs: how many pairs are drawn among the fakes, and as many among the
      reals.

  Returns:
    `metric(real [N, d], fake [M, d])` with the values `pairwise_distance`, of
    the fakes; `pairwise_distance_real`, both in units of the features; and
    `pairwise_ratio`, their quotient: 0 if all fakes are the same, 1 if they
    differ as much as the reals do.

  Raises:
    UserError: `num_pairs` is below 1; when called with fewer than two samples,
      non-finite ones, or reals that are all the same.
  """
  if num_pairs < 1:
    raise errors.UserError(
      f"pairwise_distance: num_pairs is {num_pairs}, it must be at least 1"
    )

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("pairwise_distance", real, fake, min_samples=2)
    if (real == real[0]).all():
      raise errors.UserError(
        "pairwise_distance: the real samples are all the same, no distance "
        "can be compared with theirs"
      )
    apart = _distance(fake, num_pairs)
    apart_real = _distance(real, num_pairs)
    return metrics.Record(
      {
        "pairwise_distance": apart,
        "pairwise_distance_real": apart_real,
        "pairwise_ratio": apart / apart_real,
      },
      {
        "num_real": len(real),
        "num_fake": len(fake),
        "num_pairs": num_pairs,
      },
      ("constant",) if (fake == fake[0]).all() else (),
    )

  return metric


def pairs(num: int, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Draws pairs of two different ones of `num`, always the same pairs.

  Returns:
    Two int arrays `[count]`, the indices of the first and the second ones;
    every ordered pair is as likely as any other and may come twice.
  """
  rng = np.random.RandomState(0)
  first = rng.randint(num, size=count)
  # An offset of 1 to num - 1, so that no sample is paired with itself.
  second = (first + 1 + rng.randint(num - 1, size=count)) % num
  return first, second


def _distance(x: np.ndarray, num_pairs: int) -> float:
  """Returns the mean distance of random pairs of `[N, d]`."""
  first, second = pairs(len(x), num_pairs)
  step = max(1, BLOCK // x.shape[1])
  total = 0.0
  for i in range(0, num_pairs, step):
    difference = x[first[i : i + step]] - x[second[i : i + step]]
    total += np.linalg.norm(difference, axis=1).sum()
  return float(total / num_pairs)
