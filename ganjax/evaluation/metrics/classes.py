"""How many classes the samples cover, and how unevenly."""

import fractions

import numpy as np

from ganjax import errors
from ganjax.evaluation import metrics


@metrics.register(
  on="logits",
  better={"classes_covered": "higher", "class_kl": "lower"},
  formats={"classes_covered": ".0f"},
  totals={"classes_covered": "classes"},
)
def classes(share: float = 0.1) -> metrics.Metric:
  """Returns the class coverage, a supervised test for dropped modes.

  Every sample counts for the class of its largest logit. The divergence is
  that of Che et al. 2017 and Srivastava et al. 2017 for stacked MNIST, where
  they count modes as with a `share` of 0.

  Args:
    share: which part of its share among the reals a class needs among the
      fakes to count as covered; a class without reals never does. With 0, one
      fake is enough for any class.

  Returns:
    `metric(real [N, K], fake [M, K])` on class logits, with the values
    `classes_covered`; `classes`, K; and `class_kl`, KL(fake histogram || real
    histogram) in nats, infinite if the fakes have a class that the reals have
    not.

  Raises:
    UserError: `share` is not in [0, 1]; when called without samples, or with
      non-finite ones.
  """
  if not 0 <= share <= 1:
    raise errors.UserError(
      f"classes: share is {share}, it must be at least 0 and at most 1"
    )
  # Counts are compared in whole numbers: exactly a tenth is enough.
  part = fractions.Fraction(str(share))

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("classes", real, fake)
    fakes = _counts(fake)
    reals = _counts(real)
    covered = fakes > 0
    if share:
      # Python's integers, which a long fraction does not overflow.
      have = fakes.astype(object) * len(real) * part.denominator
      need = reals.astype(object) * len(fake) * part.numerator
      covered = (reals > 0) & (have >= need)
    # A class without fakes adds 0 log 0 = 0 to the divergence.
    p = fakes[fakes > 0] / len(fake)
    q = reals[fakes > 0] / len(real)
    with np.errstate(divide="ignore"):
      kl = np.sum(p * np.log(p / q))
    return metrics.Record(
      {
        "classes_covered": int(covered.sum()),
        "classes": len(covered),
        "class_kl": max(float(kl), 0.0),  # Below 0 by rounding alone.
      },
      {"num_real": len(real), "num_fake": len(fake), "share": float(share)},
    )

  return metric


def _counts(logits: np.ndarray) -> np.ndarray:
  """Returns how many of the logits `[N, K]` are largest in each class."""
  return np.bincount(logits.argmax(axis=1), minlength=logits.shape[1])
