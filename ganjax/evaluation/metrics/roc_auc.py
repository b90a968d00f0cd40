"""How well scores tell classes that training left out from the others."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ganjax import errors
from ganjax.evaluation import metrics


@metrics.register(
  on="images",
  better={"roc_auc": "higher"},
  needs="score",
  formats={"roc_auc": ".3f"},
)
def roc_auc() -> metrics.Metric:
  """Returns the area under the ROC curve of anomaly detection.

  The probability that an image of a class of the training set has a higher
  score than one of a class that `config.leave_out` kept from it, ties counting
  half (Hanley & McNeil 1982): 1/2 by chance.

  Returns:
    `metric(known bool [N], scores [N])` with the value `roc_auc`. The protocol
    has the numbers of known and of left-out images.

  Raises:
    UserError: when called without both kinds of images, or with scores that do
      not fit them or are not finite.
  """

  def metric(known: ArrayLike | None, scores: np.ndarray) -> metrics.Record:
    if known is None or np.all(known) or not np.any(known):
      raise errors.UserError(
        "roc_auc: it needs images of known and of left-out classes: set "
        "config.leave_out, e.g. to (0,)"
      )
    known = np.asarray(known)
    scores = np.asarray(scores, np.float64)
    if known.shape != scores.shape or known.ndim != 1:
      raise errors.UserError(
        f"roc_auc: known {known.shape} and scores {scores.shape} must be [N]"
      )
    metrics.check_finite("roc_auc", "scores", scores)
    # The rank of a known image counts the images below it: those left out, and
    # the known ones, which are 1 + ... + num of all ranks.
    ranks = stats.rankdata(scores)
    num = int(known.sum())
    wins = ranks[known].sum() - num * (num + 1) / 2
    area = float(wins / (num * (len(known) - num)))
    return metrics.Record(
      {"roc_auc": area},
      {"num_known": num, "num_left_out": len(known) - num},
    )

  return metric
