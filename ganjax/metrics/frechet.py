"""The Fréchet distance between two Gaussians fitted to the samples."""

import numpy as np

from ganjax import metrics

ON = "features"


def frechet() -> metrics.Metric:
  """Returns the Fréchet distance of Heusel et al. 2017, equation 6.

  `|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))` with means m and covariances C
  (divisor N - 1); the "FID" is this in the features of one certain Inception
  network. The estimate is biased upwards, the more the fewer samples: compare
  only equal `num_real` and equal `num_fake`.

  Returns:
    `metric(real [N, d], fake [M, d])` with the value `frechet`, in squared
    units of the features. `rank_deficient` in its protocol says that a
    covariance was estimated from too few samples (at most d) to be regular.

  Raises:
    UserError: when called with fewer than two samples, or non-finite ones.
  """

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("frechet", real, fake, min_samples=2)
    dims, fewest = real.shape[1], min(len(real), len(fake))
    protocol: dict[str, object] = {
      "num_real": len(real),
      "num_fake": len(fake),
      "dims": dims,
      "rank_deficient": fewest <= dims,
    }
    value = distance(*moments(real), *moments(fake))
    return metrics.Record({"frechet": value}, protocol)

  return metric


def moments(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean `[d]` and covariance `[d, d]` of samples `[N, d]`."""
  mean = samples.mean(axis=0)
  centred = samples - mean
  return mean, centred.T @ centred / (len(samples) - 1)


def distance(
  mean: np.ndarray, cov: np.ndarray, mean2: np.ndarray, cov2: np.ndarray
) -> float:
  """Returns the squared 2-Wasserstein distance of N(m, C) and N(m', C').

  Args:
    mean: float64 `[d]`.
    cov: float64 `[d, d]`, symmetric and positive semi-definite.
    mean2: as `mean`.
    cov2: as `cov`.
  """
  # C C' has the eigenvalues of C^(1/2) C' C^(1/2), which is symmetric, so they
  # come out real where scipy.linalg.sqrtm(C C') turns complex or fails. All
  # are >= 0 but for rounding, and so is the distance.
  roots, vectors = np.linalg.eigh(cov)
  root = vectors * np.sqrt(np.clip(roots, 0, None)) @ vectors.T
  product = root @ cov2 @ root
  eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
  trace = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
  shift = np.sum((mean - mean2) ** 2)
  return max(float(shift + np.trace(cov) + np.trace(cov2) - 2 * trace), 0.0)
