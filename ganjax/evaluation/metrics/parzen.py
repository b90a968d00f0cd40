"""The log-likelihood of held-out data under a Parzen window of the samples."""

import numpy as np

from ganjax import errors
from ganjax.evaluation import metrics

SIGMAS = np.logspace(-1, 0, 10)  # The bandwidths that are tried.
ENOUGH = 10_000  # Kernels, as in 2014: fewer give a lower likelihood.
BLOCK = 10**7  # Distances at a time.


@metrics.register(
  on="images",
  better={"parzen": "higher"},
  formats={"parzen": ".1f"},
  spreads={"parzen": "parzen_error"},
)
def parzen(
  held_out: np.ndarray | None,
  validation: np.ndarray | None = None,
  num_validation: int = 1000,
) -> metrics.Metric:
  """Returns the Parzen window estimate of Goodfellow et al. 2014, section 5.

  `log p(x) = log mean_j exp(-|x - s_j|^2 / (2 sigma^2)) - d log(sigma sqrt(2
  pi))` with samples s_j of d pixels in [0, 1], of Breuleux et al. 2011. The
  bandwidth sigma is the one of ten, from 0.1 to 1 in equal steps of its
  logarithm, that has the best mean on validation data.

  Use it to compare with the papers that report it, and for nothing else: it
  rises with the number of kernels, and centroids of the data score above the
  data (Theis et al. 2016, section 3.2).

  Args:
    held_out: the examples that are scored, images `[N, H, W, C]` or points
      `[N, d]`; pixels are uint8 or floats in [0, 1].
    validation: the examples by which sigma is chosen. Without them it is chosen
      by the first tenth of `held_out` (at least one and at most
      `num_validation` of them), and only the rest is scored.
    num_validation: so many of `validation` are used, the first ones.

  Returns:
    `metric(real, fake [M, H, W, C] or [M, d])` with the values `parzen`, the
    mean in nats; `parzen_error`, its standard error over the held-out
    examples (their standard deviation, with divisor n, over the root of n);
    and `sigma`. The reals are not used. Flags tell of fewer than 10,000
    kernels, and of a sigma at the end of its grid.

  Raises:
    UserError: there is no held-out split, or a number below 1; when called
      with shapes that do not fit, too few examples, or non-finite ones.
  """
  if held_out is None:
    raise errors.UserError("parzen: it needs a held-out split to score")
  if num_validation < 1:
    raise errors.UserError(
      f"parzen: num_validation is {num_validation}, it must be at least 1"
    )

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    check = metrics.check if np.ndim(real) == 2 else metrics.check_images
    real, fake = check("parzen", real, fake)
    test = _check("held-out", held_out, fake.shape[1:])
    if validation is None:
      num = min(max(len(test) // 10, 1), num_validation)
      tuning = test[:num]
      test = test[num:]
    else:
      tuning = _check("validation", validation, fake.shape[1:])
      tuning = tuning[:num_validation]
    if not (len(tuning) and len(test)):
      raise errors.UserError(
        f"parzen: {len(tuning)} validation and {len(test)} held-out examples "
        "are left, it needs at least one of each"
      )
    kernels = _points(fake)
    best = int(log_densities(tuning, kernels, SIGMAS).mean(axis=1).argmax())
    scores = log_densities(test, kernels, SIGMAS[best : best + 1])[0]
    flags = []
    if len(kernels) < ENOUGH:
      flags.append(f"few samples: {len(kernels)} kernels")
    if best in (0, len(SIGMAS) - 1):
      flags.append("sigma at the end of its grid")
    return metrics.Record(
      {
        "parzen": float(scores.mean()),
        "parzen_error": float(scores.std() / np.sqrt(len(scores))),
        "sigma": float(SIGMAS[best]),
      },
      {
        "num_real": len(real),
        "num_fake": len(fake),
        "num_validation": len(tuning),
        "num_held_out": len(test),
        "sigma_from": "held-out" if validation is None else "validation",
      },
      tuple(flags),
    )

  return metric


def log_densities(
  examples: np.ndarray, kernels: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
  """Returns the log-density of examples under each bandwidth, in nats.

  Args:
    examples: `[N, ...]`, uint8 or floats in the units of `kernels`.
    kernels: float64 `[M, d]`, the centres.
    sigmas: `[S]`, the bandwidths.

  Returns:
    float64 `[S, N]`.
  """
  num, dims = kernels.shape
  step = max(1, BLOCK // num)
  squares = np.sum(kernels**2, axis=1)
  scores = np.empty((len(sigmas), len(examples)))
  for start in range(0, len(examples), step):
    x = _points(examples[start : start + step])
    # |x - s|^2 = |x|^2 + |s|^2 - 2 x . s, all of it in one array.
    gaps = x @ kernels.T
    gaps *= -2
    gaps += squares
    gaps += np.sum(x**2, axis=1, keepdims=True)
    # The largest term is taken out of the mean of exponentials, which would
    # all be 0 otherwise.
    nearest = gaps.min(axis=1, keepdims=True)
    gaps -= nearest
    for i, sigma in enumerate(sigmas):
      scale = -0.5 / sigma**2
      mean = np.exp(gaps * scale).mean(axis=1)
      score = nearest[:, 0] * scale + np.log(mean)
      score -= dims * np.log(sigma * np.sqrt(2 * np.pi))
      scores[i, start : start + len(x)] = score
  return scores


def _points(examples: np.ndarray) -> np.ndarray:
  """Returns examples `[N, ...]` as float64 `[N, d]`, pixels in [0, 1]."""
  scale = 255 if examples.dtype == np.uint8 else 1
  return examples.reshape(len(examples), -1).astype(np.float64) / scale


def _check(
  split: str, examples: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
  """Returns a split as an array, if each example has the `shape` of a fake."""
  examples = np.asarray(examples)
  if examples.shape[1:] != shape:
    raise errors.UserError(
      f"parzen: the {split} examples {examples.shape} must have the shape of "
      f"the fakes, {shape}"
    )
  if not np.isfinite(examples).all():
    raise errors.UserError(f"parzen: {split} examples are not finite")
  return examples
