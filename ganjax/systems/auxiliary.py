"""AC-GAN: a discriminator that also classifies (Odena et al. 2017)."""

from typing import Any

import jax.numpy as jnp
import optax

from ganjax import errors
from ganjax.nets.judged import Judged
from ganjax.systems.adversarial import Extras


def check_weight(weight: float) -> None:
  """Raises a `UserError` if a weight of the classes' loss is negative."""
  if weight < 0:
    raise errors.UserError(
      f"config.system.auxiliary_weight={weight} must be 0 or more"
    )


def class_terms(
  weight: float, real: Judged, fake: Judged, labels: Any
) -> Extras:
  """Returns the classes' loss, which both players minimise, and its accuracy.

  D learns the class of reals and fakes, G to make images of their class: the
  mean of both log-likelihoods (L_C, equation 3, halved) times `weight` is added
  to D's loss and to G's, where that of reals does not matter.

  Args:
    weight: of the loss.
    real: what D makes of this device's reals.
    fake: what D makes of this device's fakes.
    labels: of both, `[n]`.

  Raises:
    UserError: there are no labels, or D does not classify.
  """
  if labels is None:
    raise errors.UserError(
      "config.system.auxiliary_weight needs labels: choose a dataset that "
      "has some, or set it to 0"
    )
  if real.class_logits is None or fake.class_logits is None:
    raise errors.UserError(
      "config.system.auxiliary_weight needs a discriminator that classifies: "
      "set config.discriminator.head='auxiliary', or the weight to 0"
    )
  logits = jnp.concatenate([real.class_logits, fake.class_logits])
  logits = logits.astype(jnp.float32)
  classes = jnp.concatenate([labels, labels])
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
  right = logits.argmax(1) == classes
  return {
    "class_loss": (loss.mean(), weight),
    "class_accuracy": (right.mean(), 0.0),
  }
