"""The Fréchet distance within each class."""

import numpy as np
from numpy.typing import ArrayLike

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.evaluation.metrics import frechet


@metrics.register(
  on="features",
  better={"intra_frechet": "lower", "intra_frechet_worst": "lower"},
)
def intra_frechet(
  labels: ArrayLike | None, fake_labels: ArrayLike | None
) -> metrics.Metric:
  """Returns the intra-class Fréchet distance of a conditional generator.

  The Fréchet distance of the reals of one class to the fakes made for it,
  averaged over the classes of the reals with equal weights: the "intra FID" of
  Miyato and Koyama 2018, section 4.1. It sees what the distance of all samples
  cannot: fakes that ignore their class. The bias of each distance is that of
  few samples, those of one class: compare only equal numbers.

  Args:
    labels: int `[N]`, the class of each real.
    fake_labels: int `[M]`, the class that each fake was made for.

  Returns:
    `metric(real [N, d], fake [M, d])` with the values `intra_frechet`, the
    mean, and `intra_frechet_worst`, the largest of the classes, in squared
    units of the features. Its flags: "rank deficient", the covariance of a
    class was estimated from d samples or fewer; "constant", all samples of a
    class, real or fake, are the same.

  Raises:
    UserError: there are no labels for the reals; when called without labels of
      the fakes, with other than N reals and M fakes, with a class that has
      fewer than two reals or two fakes, with fakes of a class without reals,
      or with non-finite samples.
  """
  if labels is None:
    raise errors.UserError(
      "intra_frechet: this dataset has no labels to tell its classes apart"
    )

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check("intra_frechet", real, fake)
    real_y, fake_y = metrics.check_labels(
      "intra_frechet", real=(labels, real), fake=(fake_labels, fake)
    )
    _check(real_y, fake_y)
    distance = frechet.frechet()
    values = []
    counts = []
    flags = set()
    for name in np.unique(real_y):
      reals = real[real_y == name]
      fakes = fake[fake_y == name]
      record = distance(reals, fakes)
      values.append(record.values["frechet"])
      counts.append([len(reals), len(fakes)])
      flags.update(record.flags)
    fewest_real, fewest_fake = np.min(counts, axis=0).tolist()
    return metrics.Record(
      {
        "intra_frechet": float(np.mean(values)),
        "intra_frechet_worst": max(values),
      },
      {
        "num_real": len(real),
        "num_fake": len(fake),
        "dims": real.shape[1],
        "classes": len(values),
        "fewest_real": fewest_real,
        "fewest_fake": fewest_fake,
      },
      tuple(sorted(flags)),
    )

  return metric


def _check(labels: np.ndarray, fake_labels: np.ndarray) -> None:
  """Raises a `UserError` unless every class has reals and fakes."""
  # A class left out would make the mean look better: it is an error instead.
  for name in np.union1d(labels, fake_labels).tolist():
    for kind, names in ("real", labels), ("fake", fake_labels):
      num = int(np.sum(names == name))
      if num < 2:
        raise errors.UserError(
          f"intra_frechet: class {name} has {num} {kind} samples, it needs at "
          f"least 2: use more {kind} samples"
        )
