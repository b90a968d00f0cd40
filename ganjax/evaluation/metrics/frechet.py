"""The Fréchet distance between two Gaussians fitted to the samples."""

import dataclasses
import os
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ganjax import errors
from ganjax.evaluation import metrics

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
  def of(cls, samples: ArrayLike) -> "Moments":
    """Returns the moments of samples `[N, d]`, N at least 1.

    Raises:
      UserError: no samples, another shape, or samples that are not finite.
    """
    samples = np.asarray(samples)
    if samples.ndim != 2 or not len(samples):
      raise errors.UserError(
        f"moments: samples {samples.shape} must be [N, d], N at least 1"
      )
    total = _of_rows(samples[:ROWS])
    for start in range(ROWS, len(samples), ROWS):
      total += _of_rows(samples[start : start + ROWS])
    return total

  def add(self, batch: ArrayLike) -> "Moments":
    """Returns the moments of all samples so far and of `batch` `[N, d]`."""
    return self + Moments.of(batch)

  def __add__(self, other: "Moments") -> "Moments":
    """Returns the moments of the samples of both.

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
    num: dict[str, Any] = {} if self.n is None else {"num": self.n}
    try:
      # By its name alone, savez might append a suffix to it.
      with open(path, "wb") as file:
        np.savez(file, mu=self.mean, sigma=self.cov, **num)
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


Side = np.ndarray | Moments


@metrics.register(
  on="features",
  better={"frechet": "lower"},
)
def frechet() -> Callable[[Side, Side], metrics.Record]:
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

  def metric(real: Side, fake: Side) -> metrics.Record:
    # At 50,000 x 2048 each side is 0.8 GB in float64; all else is smaller.
    real, fake = _check(real, fake)
    sides = [
      x if isinstance(x, Moments) else Moments.of(x) for x in (real, fake)
    ]
    a, b = sides
    dims = len(a.mean)
    deficient = any(x.n is not None and x.n <= dims for x in sides)
    if (
      deficient
      and isinstance(real, np.ndarray)
      and isinstance(fake, np.ndarray)
    ):
      cross = trace_from_samples(real, fake)
    else:
      cross = trace_from_covs(a.cov, b.cov)
    flags = {
      "rank deficient": deficient,
      "constant": any(not x.cov.any() for x in sides),
      "number of samples unknown": any(x.n is None for x in sides),
    }
    shift = np.sum((a.mean - b.mean) ** 2)
    value = float(shift + np.trace(a.cov) + np.trace(b.cov) - 2 * cross)
    return metrics.Record(
      {"frechet": max(value, 0.0)},  # Below 0 it is by rounding alone.
      {
        "num_real": "unknown" if a.n is None else a.n,
        "num_fake": "unknown" if b.n is None else b.n,
        "dims": dims,
      },
      tuple(flag for flag, holds in flags.items() if holds),
    )

  return metric


def trace_from_covs(cov: np.ndarray, cov2: np.ndarray) -> float:
  """Returns tr (C C')^(1/2) of covariances `[d, d]`.

  Args:
    cov: float64 `[d, d]`, symmetric and positive semi-definite.
    cov2: as `cov`.
  """
  # C C' has the eigenvalues of C^(1/2) C' C^(1/2), which is symmetric, so they
  # come out real where scipy.linalg.sqrtm(C C') turns complex or fails. All
  # are >= 0 but for rounding.
  roots, vectors = np.linalg.eigh(cov)
  root = vectors * np.sqrt(np.clip(roots, 0, None)) @ vectors.T
  product = root @ cov2 @ root
  eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
  return float(np.sqrt(np.clip(eigenvalues, 0, None)).sum())


def trace_from_samples(real: np.ndarray, fake: np.ndarray) -> float:
  """Returns tr (C C')^(1/2) of the covariances of `[N, d]` and `[M, d]`.

  With centred samples A and B, (N - 1) C = A^T A and (M - 1) C' = B^T B, and
  the root's eigenvalues are the singular values of A B^T, scaled: no root is
  taken of eigenvalues that are 0 but for rounding.

  Args:
    real: float64 `[N, d]`, N at least 2.
    fake: float64 `[M, d]`, M at least 2.
  """
  product = _compact(real) @ _compact(fake).T
  total = np.linalg.svd(product, compute_uv=False).sum()
  return float(total / np.sqrt((len(real) - 1) * (len(fake) - 1)))


def _compact(samples: np.ndarray) -> np.ndarray:
  """Returns at most d rows with the A^T A of the centred samples `[N, d]`."""
  mean = Moments.of(samples).mean
  dims = samples.shape[1]
  rows = samples[:0]
  for start in range(0, len(samples), ROWS):
    rows = np.concatenate([rows, samples[start : start + ROWS] - mean])
    if len(rows) > dims:
      rows = np.asarray(np.linalg.qr(rows, mode="r"))
  return rows


def _of_rows(samples: np.ndarray) -> Moments:
  """Returns the moments of samples `[N, d]`, all of them at a time."""
  samples = samples.astype(np.float64)
  num = len(samples)
  bad = num - np.isfinite(samples).all(axis=1).sum()
  if bad:
    raise errors.UserError(f"moments: {bad} of {num} samples are not finite")
  # As seen from the first sample: equal samples have a cov of exactly 0.
  centred = samples - samples[0]
  shift = centred.mean(axis=0)
  centred -= shift
  cov = centred.T @ centred / max(num - 1, 1)
  return Moments(samples[0] + shift, cov, num)


def _check(real: Side, fake: Side) -> list[Side]:
  """Returns both sides, arrays as float64; checks them, or raises."""
  given = (real, fake)
  samples = [_stand_in(x) if isinstance(x, Moments) else x for x in given]
  one_real = np.shape(samples[0])[1:]
  one_fake = np.shape(samples[1])[1:]
  if any(isinstance(x, Moments) for x in given) and one_real != one_fake:
    raise errors.UserError(
      f"frechet: one real sample is {one_real} and one fake {one_fake}"
    )
  arrays = metrics.check("frechet", samples[0], samples[1], min_samples=2)
  return [
    x if isinstance(x, Moments) else array
    for x, array in zip(given, arrays, strict=True)
  ]


def _stand_in(moments: Moments) -> np.ndarray:
  """Returns samples `[2, d]` to be checked in the place of moments.

  They are the mean, twice; once if the moments are those of a single sample,
  which is too few.
  """
  num = 2 if moments.n is None else min(moments.n, 2)
  return moments.mean[None].repeat(num, axis=0)


def _check_moments(
  path: str | os.PathLike, mu: np.ndarray, sigma: np.ndarray
) -> None:
  """Raises a `UserError` if they are no mean and covariance."""
  if mu.ndim != 1 or sigma.shape != 2 * mu.shape:
    raise errors.UserError(
      f"{path}: mu {mu.shape} and sigma {sigma.shape} must be [d] and [d, d]"
    )
  if mu.dtype.kind not in "fiu" or sigma.dtype.kind not in "fiu":
    raise errors.UserError(
      f"{path}: mu is {mu.dtype} and sigma {sigma.dtype}; they must be numbers"
    )
  if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
    raise errors.UserError(f"{path}: mu or sigma is not finite")
  skew = np.abs(sigma - sigma.T).max(initial=0)
  # Some are written in float32, whose rounding is far below this.
  if skew > 1e-4 * np.abs(sigma).max(initial=0):
    raise errors.UserError(f"{path}: sigma is not symmetric")
