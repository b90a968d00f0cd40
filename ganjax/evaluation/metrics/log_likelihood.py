"""Mean bounds on the log-likelihood of held-out images."""

from collections.abc import Mapping

import numpy as np

from ganjax import errors
from ganjax.evaluation import metrics


@metrics.register(
  on="images",
  better={"elbo": "higher", "importance_bound": "higher"},
  needs="log_likelihood",
  how=("draws",),
  formats={"elbo": ".1f", "kl": ".1f", "importance_bound": ".1f"},
  spreads={
    "elbo": "elbo_error",
    "kl": "kl_error",
    "importance_bound": "importance_bound_error",
  },
)
def log_likelihood(draws: int = 50) -> metrics.Metric:
  """Returns the means of a system's bounds on log p(x), in nats per image.

  Args:
    draws: how many z are drawn for each image, for the importance-weighted
      bound of Burda et al. 2016.

  Returns:
    `metric(images [N, ...], bounds {name: [N]})` with the mean of each bound
    and part, of a VAE `elbo`, `kl` and `importance_bound`, and their standard
    errors over images, `<name>_error`.

  Raises:
    UserError: draws below 1; when called with bounds that are not finite.
  """
  if draws < 1:
    raise errors.UserError(f"log_likelihood: draws={draws} must be 1 or more")

  def metric(
    images: np.ndarray, bounds: Mapping[str, np.ndarray]
  ) -> metrics.Record:
    values: dict[str, float] = {}
    for name, nats in bounds.items():
      nats = np.asarray(nats, np.float64)
      metrics.check_finite("log_likelihood", name, nats)
      values[name] = float(nats.mean())
      values[f"{name}_error"] = float(nats.std() / len(nats) ** 0.5)
    return metrics.Record(values, dict(num_held_out=len(images), draws=draws))

  return metric
