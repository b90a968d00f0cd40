"""Relativistic objectives: how much more real the real images look.

A relativistic loss judges no logit C(x) by itself, but differences of logits
(Jolicoeur-Martineau 2018, arXiv 1807.00734; 2019, arXiv 1901.02474). Each form
in `RELATIVISM` is a function `(real [N], fake [N]) -> differences` of any
shape, which D wants to be large. If f1(y) is what a loss makes of a real
image's logit y,

    D minimises the mean of f1(differences(real, fake)),
    G minimises the mean of f1(differences(fake, real)).

This one mean over *all* differences gives the prefactors of the 2018 code,
where "pairing" counts once, and "average" and "centered", which have a
difference for each real and each fake, are halved.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ganjax import errors, registry

RELATIVISM = registry.Registry("relativism")

# The means of logits that some forms use are those of a batch of N, which
# makes the mean square of their differences too large or too small: by these
# factors times (var r + var f) / N (2019, section 5; halved as all else here).
BIAS = {"average": 0.5, "centered": -0.25}


def transform(
  term: Callable[[jax.Array], jax.Array], form: str, unbiased: bool = False
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns D's relativistic loss `(real [N], fake [N]) -> scalar`.

  G's is the same function with its arguments exchanged.

  Args:
    term: what the loss makes of a real image's logit, elementwise.
    form: a name in `RELATIVISM`, or `module:attribute`.
    unbiased: whether to subtract the bias of a squared term, with the unbiased
      variances of the batch. The form must be a key of `BIAS`.

  Raises:
    UserError: there is no such form.
  """
  if form not in RELATIVISM and ":" not in form:
    raise errors.unknown("relativism", form, ["none", *RELATIVISM])
  differences = RELATIVISM.find(form)

  def loss(real, fake):
    value = term(differences(real, fake)).mean()
    if unbiased:
      variances = jnp.var(real, ddof=1) + jnp.var(fake, ddof=1)
      value -= BIAS[form] * variances / len(real)
    return value

  return loss


@RELATIVISM.register
def pairing(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Each real with one fake (RpGAN, "RSGAN"): r - f, `[N]`."""
  return real - fake


@RELATIVISM.register
def pairing_mvue(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Each real with every fake: `[N, N]`.

  Of all unbiased estimators of what `pairing` estimates this one has the
  smallest variance (2019).
  """
  return real[:, None] - fake[None, :]


@RELATIVISM.register
def average(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Each logit with the opponents' mean (RaGAN): `[2, N]`."""
  return jnp.stack([real - fake.mean(), real.mean() - fake])


@RELATIVISM.register
def centered(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Each logit with the mean of both means (RcGAN): `[2, N]`."""
  centre = (real.mean() + fake.mean()) / 2.0
  return jnp.stack([real - centre, centre - fake])
