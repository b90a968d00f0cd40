"""The kernel distance: a squared MMD without bias, averaged over subsets."""

import numpy as np

from ganjax import errors
from ganjax.evaluation import metrics

# Rows of a kernel matrix at a time: however large the subsets, it stays small.
ROWS = 1024


@metrics.register(
  on="features",
  better={"kernel_mean": "lower"},
  spreads={"kernel_mean": "kernel_std"},
)
def kernel(
  num_subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> metrics.Metric:
  """Returns the kernel distance of Binkowski et al. 2018.

  The unbiased estimate of the squared maximum mean discrepancy (Gretton et
  al. 2012, equation 3) with the kernel `(x . y / d + 1)^3`, averaged over
  subsets of both sides; the "KID" is this in the features of one certain
  Inception network. Its expectation depends on no number of samples, is 0 for
  equal distributions, and so the value may lie below 0.

  torch-fidelity 0.4.0 draws the same subsets and has the same values if its
  first input is the fakes and its second the reals, but for rounding: it
  computes in the precision of the features, and this in float64.

  Args:
    num_subsets: how many subsets are drawn of each side.
    subset_size: how many samples a subset has; all of the smaller side if that
      has fewer.
    seed: decides which subsets are drawn.

  Returns:
    `metric(real [N, d], fake [M, d])` with the values `kernel_mean` and
    `kernel_std`, the standard deviation (divisor `num_subsets`) over subsets,
    which is not the error of the mean: subsets overlap. It is flagged "few
    samples: subsets of n" where there are fewer than `subset_size`; "subsets
    all alike" where each is all there is, and the deviation says nothing;
    "constant" where all samples of a side are the same.

  Raises:
    UserError: `num_subsets` is below 1 or `subset_size` below 2; when called
      with fewer than two samples, or non-finite ones.
  """
  if num_subsets < 1:
    raise errors.UserError(
      f"kernel: num_subsets is {num_subsets}, it must be at least 1"
    )
  if subset_size < 2:
    raise errors.UserError(
      f"kernel: subset_size is {subset_size}, it must be at least 2"
    )

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("kernel", real, fake, min_samples=2)
    size = min(subset_size, len(real), len(fake))
    rng = np.random.RandomState(seed)
    estimates = []
    for _ in range(num_subsets):
      # The fakes first: the order decides which random numbers each gets.
      fakes = fake[rng.choice(len(fake), size, replace=False)]
      reals = real[rng.choice(len(real), size, replace=False)]
      estimates.append(mmd2(reals, fakes))
    flags = {
      f"few samples: subsets of {size}": size < subset_size,
      "subsets all alike": size == len(real) == len(fake),
      "constant": any((x == x[0]).all() for x in (real, fake)),
    }
    return metrics.Record(
      {
        "kernel_mean": float(np.mean(estimates)),
        "kernel_std": float(np.std(estimates)),
      },
      {
        "num_real": len(real),
        "num_fake": len(fake),
        "num_subsets": num_subsets,
        "subset_size": size,
        "seed": seed,
      },
      tuple(flag for flag, holds in flags.items() if holds),
    )

  return metric


def mmd2(x: np.ndarray, y: np.ndarray) -> float:
  """Returns the unbiased squared MMD of `[N, d]` and `[M, d]`.

  Gretton et al. 2012, equation 3: no sample is paired with itself.

  Args:
    x: float64 `[N, d]`, N at least 2.
    y: float64 `[M, d]`, M at least 2.
  """
  n = len(x)
  m = len(y)
  within_x = (_sum(x, x) - _diagonal(x)) / (n * (n - 1))
  within_y = (_sum(y, y) - _diagonal(y)) / (m * (m - 1))
  return within_x + within_y - 2 * _sum(x, y) / (n * m)


def _sum(x: np.ndarray, y: np.ndarray) -> float:
  """Returns the sum of the kernel over all pairs."""
  total = 0.0
  for start in range(0, len(x), ROWS):
    k = x[start : start + ROWS] @ y.T / x.shape[1] + 1
    total += float(np.sum(k * k * k))  # `k**3` is far slower.
  return total


def _diagonal(x: np.ndarray) -> float:
  """Returns the sum of the kernel of each sample with itself."""
  return float(np.sum((np.sum(x * x, axis=1) / x.shape[1] + 1) ** 3))
