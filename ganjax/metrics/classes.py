"""How many classes the samples cover, and how unevenly."""

import numpy as np

from ganjax import metrics

ON = "logits"
BETTER = {"classes_covered": "higher", "class_kl": "lower"}
LEAST = 10  # A class is covered if it has this part of its real share.


def classes() -> metrics.Metric:
  """Returns the class coverage, a supervised test for dropped modes.

  Every sample counts for the class of its largest logit. The divergence is
  that of Che et al. 2017 and Srivastava et al. 2017 for stacked MNIST.

  Returns:
    `metric(real [N, K], fake [M, K])` on class logits, with the values
    `classes_covered`, the classes whose share among the fakes is at least a
    tenth of their share among the reals (a class without reals never is);
    `classes`, K; and `class_kl`, KL(fake histogram || real histogram) in
    nats, infinite if the fakes have a class that the reals have not.

  Raises:
    UserError: when called without samples, or with non-finite ones.
  """

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("classes", real, fake)
    p, q = _counts(fake), _counts(real)
    # In whole numbers: exactly a tenth is enough.
    covered = (q > 0) & (LEAST * p * len(real) >= q * len(fake))
    p, q = p[p > 0] / len(fake), q[p > 0] / len(real)
    with np.errstate(divide="ignore"):
      kl = np.sum(p * np.log(p / q))
    return metrics.Record(
      {
        "classes_covered": int(covered.sum()),
        "classes": len(covered),
        "class_kl": max(float(kl), 0.0),
      },
      {"num_real": len(real), "num_fake": len(fake)},
    )

  return metric


def _counts(logits: np.ndarray) -> np.ndarray:
  """Returns how many of the logits `[N, K]` are largest in each class."""
  return np.bincount(logits.argmax(axis=1), minlength=logits.shape[1])
