"""The share of held-out images that a classifier names wrongly."""

import numpy as np
from numpy.typing import ArrayLike

from ganjax import errors
from ganjax.evaluation import metrics


@metrics.register(
  on="images",
  better={"test_error": "lower"},
  needs="classify",
  formats={"test_error": ".1f"},
  spreads={"test_error": "test_error_error"},
)
def classification_error() -> metrics.Metric:
  """Returns the test error of a system that classifies, in percent.

  Returns:
    `metric(labels int [N], logits [N, K])` with the value `test_error`, and
    its standard error `test_error_error` over images: it says nothing of
    another seed or other labelled images.

  Raises:
    UserError: when called without labels, or with logits that do not fit them
      or are not finite.
  """

  def metric(labels: ArrayLike | None, logits: np.ndarray) -> metrics.Record:
    if labels is None:
      raise errors.UserError(
        "classification_error: it needs a dataset with labels"
      )
    labels = np.asarray(labels)
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or labels.shape != (len(logits),) or not len(logits):
      raise errors.UserError(
        f"classification_error: labels {labels.shape} and logits "
        f"{logits.shape} must be [N] and [N, K]"
      )
    metrics.check_finite("classification_error", "logits", logits)
    share = float(np.mean(logits.argmax(axis=1) != labels))
    # The standard error of a share, that of a binomial distribution.
    spread = (share * (1 - share) / len(labels)) ** 0.5
    values = dict(test_error=100 * share, test_error_error=100 * spread)
    return metrics.Record(values, dict(num_held_out=len(labels)))

  return metric
