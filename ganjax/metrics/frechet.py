"""The Fréchet distance between two Gaussians fitted to the samples."""

import dataclasses
import os
import zipfile
import zlib
from typing import Any

import numpy as np

from ganjax import errors, metrics

ON = "features"
BETTER = {"frechet": "lower"}

# Statistics are made of so many samples at a time: 64 MiB if d is 2048.
ROWS = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
  """Mean and covariance of samples that need not be in memory together.

  The sum of two is that of the samples of both, whatever their order. They
  are merged as by Chan, Golub and LeVeque 1979, which a large common offset
  does not harm as it harms sums of squares.

  Attributes:
    mean: float64 `[d]`.
    cov: float64 `[d, d]` with the divisor n - 1; 0 where n is 1.
    n: how many samples; None if a file does not say.
  """

  mean: np.ndarray
  cov: np.ndarray
  n: int | None

  @classmethod
  def of(cls, samples: Any) -> "Moments":
    """Returns those of samples `[N, d]`, N at least 1.

    Raises:
      UserError: no samples, another shape, or samples that are not finite.
    """
    samples = np.asarray(samples)
    if samples.ndim != 2 or not len(samples):
      raise errors.UserError(
        f"moments: samples {samples.shape} must be [N, d], N at least 1"
      )
    parts = range(0, len(samples), ROWS)
    total, *rest = (_of_part(samples[i : i + ROWS]) for i in parts[:1])
    for i in parts[1:]:
      total += _of_part(samples[i : i + ROWS])
    return total

  def add(self, batch: Any) -> "Moments":
    """Returns those of all samples so far and of `batch` `[N, d]`."""
    return self + Moments.of(batch)

  def __add__(self, other: "Moments") -> "Moments":
    """Returns those of the samples of both.

    Raises:
      UserError: they differ in dims, or one does not know its n.
    """
    if self.mean.shape != other.mean.shape:
      raise errors.UserError(
        f"moments: {len(self.mean)} and {len(other.mean)} dims do not add up"
      )
    if self.n is None or other.n is None:
      raise errors.UserError(
        "moments: only those that know their number of samples add up"
      )
    n = self.n + other.n
    shift = other.mean - self.mean
    scatter = (self.n - 1) * self.cov + (other.n - 1) * other.cov
    scatter += np.outer(shift, shift * (self.n * other.n / n))
    return Moments(self.mean + shift * (other.n / n), scatter / (n - 1), n)

  def save(self, path: str | os.PathLike) -> None:
    """Writes an .npz file of `mu`, `sigma` and, where it is known, `num`.

    Raises:
      UserError: the file cannot be written.
    """
    arrays = {"mu": self.mean, "sigma": self.cov}
    if self.n is not None:
      arrays["num"] = np.asarray(self.n)
    try:
      # By its name alone, savez might append a suffix to it.
      with open(path, "wb") as file:
        np.savez(file, **arrays)
    except OSError as error:
      raise errors.UserError(
        f"{path} cannot be written: {error.strerror}"
      ) from error

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Moments":
    """Reads what `save` wrote, or published FID statistics.

    Those of TTUR and pytorch-fid have `mu` and `sigma` but no `num`.

    Raises:
      UserError: the file is missing, damaged or pickled, or what it holds is
        no mean and covariance.
    """
    try:
      with open(path, "rb") as stream:
        file = np.load(stream, allow_pickle=False)
        there = getattr(file, "files", ())  # None in a single .npy array.
        arrays = {k: file[k] for k in ("mu", "sigma", "num") if k in there}
    except OSError as error:
      raise errors.UserError(
        f"{path} cannot be read: {error.strerror}"
      ) from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
      raise errors.UserError(
        f"{path} is not a whole .npz file of arrays; get or save it again"
      ) from error
    for name in ("mu", "sigma"):
      if name not in arrays:
        raise errors.UserError(
          f"{path} has no {name}; published FID statistics have mu and sigma"
        )
    num = arrays.pop("num", None)
    _check_moments(path, **arrays)
    if num is not None and (num.shape or num.dtype.kind not in "iu" or num < 1):
      raise errors.UserError(f"{path}: num must be one integer above 0")
    return cls(
      arrays["mu"].astype(np.float64),
      arrays["sigma"].astype(np.float64),
      None if num is None else int(num),
    )


def frechet() -> metrics.Metric:
  """Returns the Fréchet distance of Heusel et al. 2017, equation 6.

  `|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))` with means m and covariances C
  (divisor N - 1); the "FID" is this in the features of one certain Inception
  network. The estimate is biased upwards, the more the fewer samples: compare
  only equal `num_real` and equal `num_fake`.

  Returns:
    `metric(real [N, d], fake [M, d])` with the value `frechet`, in squared
    units of the features. Each side may be given as its `Moments` instead.
    It is flagged "rank deficient" where a covariance was estimated from too
    few samples, at most d, to be regular; "constant" where all samples of a
    side are the same; and "number of samples unknown" where a file of moments
    does not say it.

  Raises:
    UserError: when called with fewer than two samples, or non-finite ones.
  """

  def metric(
    real: np.ndarray | Moments, fake: np.ndarray | Moments
  ) -> metrics.Record:
    real, fake = _check(real, fake)
    a, b = (x if isinstance(x, Moments) else Moments.of(x) for x in (real, fake))
    dims, numbers = len(a.mean), (a.n, b.n)
    deficient = any(n is not None and n <= dims for n in numbers)
    if deficient and not isinstance(real, Moments | None) and 0:
      pass
    return metrics.Record({}, {})

  return metric
