"""How many modes of the data the samples cover, and how well they hit them."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import distance

from ganjax import errors
from ganjax.evaluation import metrics


@metrics.register(
  on="samples",
  better={
    "modes_covered": "higher",
    "high_quality": "higher",
    "mode_kl": "lower",
  },
  formats={"modes_covered": ".0f", "high_quality": ".3f"},
  totals={"modes_covered": "modes"},
)
def modes(labels: ArrayLike | None, sigmas: float = 3.0) -> metrics.Metric:
  """Returns the mode coverage, the test for dropped modes of toy data.

  A sample is of high quality if it lies within `sigmas` standard deviations
  of its nearest mode, and a mode is covered if at least one high-quality
  sample is nearest to it: both as in Srivastava et al. 2017 (VEEGAN), section
  4, who take 3 deviations in the plane. The reverse KL divergence is that of
  Lin et al. 2018 (PacGAN), section 4.1: every sample, of whatever quality,
  counts for its nearest mode. They compare with the uniform histogram, this
  with that of the labels, which is the same for data with even modes.

  A mode is known by the reals that are labelled with it: its centre is their
  mean. The deviation is one number for all modes: the root mean square, over
  reals and coordinates, of real minus centre. In d dimensions a real itself
  lies about sqrt(d) of them from its centre.

  Args:
    labels: int `[N]`, the mode of each real sample.
    sigmas: how many standard deviations are near enough.

  Returns:
    `metric(real [N, d], fake [M, d])` on plain samples, with the values
    `modes_covered`; `modes`, how many have a label; `high_quality`, the
    share of such samples; and `mode_kl`, KL(fake histogram || real histogram)
    in nats, finite since every mode has reals.

  Raises:
    UserError: there are no labels, or `sigmas` is not positive; when called
      with other than N reals, without samples, or with non-finite ones.
  """
  if labels is None:
    raise errors.UserError(
      "modes: this dataset has no labels to tell its modes apart"
    )
  if not sigmas > 0:
    raise errors.UserError(f"modes: sigmas is {sigmas}, it must be above 0")
  names, index = np.unique(np.asarray(labels), return_inverse=True)

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("modes", real, fake)
    if index.shape != (len(real),):
      raise errors.UserError(
        f"modes: labels {index.shape} must be one for each of the {len(real)} "
        "real samples"
      )
    groups = [real[index == mode] for mode in range(len(names))]
    centres = np.stack([group.mean(axis=0) for group in groups])
    pairs = zip(groups, centres, strict=True)
    squares = [np.sum((group - centre) ** 2) for group, centre in pairs]
    # One deviation for all modes and coordinates: `real.size` is N d.
    std = np.sqrt(np.sum(squares) / real.size)

    distances = distance.cdist(fake, centres)
    nearest = distances.argmin(axis=1)
    good = distances.min(axis=1) <= sigmas * std
    p = np.bincount(nearest, minlength=len(names)) / len(fake)
    q = np.bincount(index) / len(real)
    # A mode without fakes adds 0 log 0 = 0 to the divergence.
    hit = p > 0
    kl = float(np.sum(p[hit] * np.log(p[hit] / q[hit])))
    return metrics.Record(
      {
        "modes_covered": len(np.unique(nearest[good])),
        "modes": len(names),
        "high_quality": float(good.mean()),
        "mode_kl": max(kl, 0.0),  # Below 0 by rounding alone.
      },
      {"num_real": len(real), "num_fake": len(fake), "sigmas": float(sigmas)},
    )

  return metric
