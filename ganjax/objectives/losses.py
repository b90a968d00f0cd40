"""Adversarial objectives on logits: `losses.get("hinge")`.

A loss is a pair of functions `(real_logits [N], fake_logits [N]) -> scalar
float32`, one for each player. Both are minimised, and both are means over N.

- The mean is over the *global* batch: a step gathers the logits of all devices
  before it calls the loss.
- Every generator loss takes `real_logits`, too, since relativistic objectives
  use them. XLA removes what is not used.
- Where a paper speaks of D's probability, D(x) = sigmoid(logit).
- Relativism is no second list of losses but a transformation of the logits,
  `losses.get("hinge", relativism="average")`: see `relativism.py`.

`LOSSES` holds those of this file; one of a user's own is registered by
`@LOSSES.register` or named `module:attribute`. It is any function that returns
a `Loss`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ganjax import errors, registry
from ganjax.objectives import divergences, relativism

# (real_logits [N], fake_logits [N]) -> scalar
LogitLoss = Callable[[jax.Array, jax.Array], jax.Array]
# What a loss makes of each logit alone: [N] -> [N].
Term = Callable[[jax.Array], jax.Array]

LOSSES = registry.Registry("loss")


class Loss(NamedTuple):
  """What each player minimises.

  Attributes:
    discriminator: `(real_logits [N], fake_logits [N]) -> scalar`.
    generator: `(real_logits [N], fake_logits [N]) -> scalar`.
    probability: `[N] -> [N]`, the D(x) in [0, 1] that a logit stands for. The
      optimal logit of this loss becomes p_data / (p_data + p_g).
    terms: `(real_term, fake_term)`, `[N] -> [N]` each, if D's loss is
      E real_term(r) + E fake_term(f); None if it has no such form.
    symmetric: whether fake_term(y) = real_term(-y), apart from the targets of
      `least_squares`. Only such losses have relativistic forms.
    shift_invariant: whether the loss stays the same if all logits move
      together, so that a single logit has no meaning.
    generator_uses_real: whether the real logits enter G's loss.
    weights: the factors that D's and G's loss contain; `get` sets them.
  """

  discriminator: LogitLoss
  generator: LogitLoss
  probability: Term = jax.nn.sigmoid
  terms: tuple[Term, Term] | None = None
  symmetric: bool = False
  shift_invariant: bool = False
  generator_uses_real: bool = False
  weights: tuple[float, float] = (1.0, 1.0)


def get(
  name: str,
  d_weight: float = 1.0,
  g_weight: float = 1.0,
  relativism: str = "none",
  unbiased: bool = False,
  **hyper: Any,
) -> Loss:
  """Returns the loss `name`.

  Args:
    name: a name in `LOSSES`, or `module:attribute`.
    d_weight: a factor on the discriminator's loss. The papers' codes differ
      in it (2014: 0.5); it matters with SGD and beside penalties.
    g_weight: the same for the generator's loss.
    relativism: "none" or a name in `relativism.RELATIVISM`: "pairing" of
      non_saturating is RSGAN, "average" of it RaSGAN.
    unbiased: whether to take the bias of the batch's means out of
      `least_squares` with relativism "average" or "centered".
    **hyper: the loss's own parameters, e.g. `real_target` of `least_squares`.

  Returns:
    A `Loss` in float32, whatever the logits' type.

  Raises:
    UserError: there is no such loss, it has no such form, or a weight is not
      positive.
  """
  if d_weight <= 0 or g_weight <= 0:
    raise errors.UserError(
      f"loss {name!r}: d_weight={d_weight} and g_weight={g_weight} "
      "must both be above 0"
    )
  loss = LOSSES.find(name)(**hyper)
  if relativism != "none" or unbiased:
    loss = _relativistic(name, loss, relativism, unbiased)
  return _weighted(loss, d_weight, g_weight)


def _relativistic(name: str, loss: Loss, form: str, unbiased: bool) -> Loss:
  """Returns a loss of differences of logits in place of the logits."""
  if not loss.symmetric or loss.terms is None:
    raise errors.UserError(
      f"loss {name!r} with these settings has no relativistic form; "
      "non_saturating, hinge and least_squares (with real_target = "
      "generator_target) have"
    )
  # Only the bias of a mean square is known: a variance.
  if unbiased and (name != "least_squares" or form not in relativism.BIAS):
    raise errors.UserError(
      f"loss.unbiased=True corrects least_squares with relativism "
      f"{' or '.join(relativism.BIAS)}, not {name} with {form!r}"
    )
  discriminator = relativism.transform(loss.terms[0], form, unbiased)

  def generator(real, fake):
    # Non-saturating: G wants for its fakes what D wants for the reals.
    return discriminator(fake, real)

  return Loss(
    discriminator=discriminator,
    generator=generator,
    shift_invariant=True,
    generator_uses_real=True,
  )


def _weighted(loss: Loss, d_weight: float, g_weight: float) -> Loss:
  """Returns the loss with its weights, in float32, on checked shapes."""

  def checked(function: LogitLoss, weight: float) -> LogitLoss:
    def weighted_loss(real_logits, fake_logits):
      # [N, 1] beside [N] would broadcast to [N, N] without a word.
      if real_logits.shape != fake_logits.shape or real_logits.ndim != 1:
        raise ValueError(
          "logits must be [N] and [N], not "
          f"{list(real_logits.shape)} and {list(fake_logits.shape)}"
        )
      real = real_logits.astype(jnp.float32)
      fake = fake_logits.astype(jnp.float32)
      return weight * function(real, fake)

    return weighted_loss

  return loss._replace(
    discriminator=checked(loss.discriminator, d_weight),
    generator=checked(loss.generator, g_weight),
    weights=(d_weight, g_weight),
  )


def smooth(loss: Loss, amount: float) -> Loss:
  """Returns `loss` with one-sided label smoothing (Salimans et al. 2016).

  D is told that a real image is real with probability 1 - amount only: with
  cross-entropy the target of reals is 1 - amount, that of fakes stays 0.

  Args:
    loss: of `get`.
    amount: 0 for the loss as it is.

  Raises:
    UserError: D's loss does not judge single images.
  """
  if not amount:
    return loss
  if loss.terms is None:
    raise errors.UserError(
      "label_smoothing is for losses that judge single images, not for "
      "relativistic ones"
    )
  real_term, fake_term = loss.terms
  d_weight, g_weight = loss.weights

  def discriminator(real, fake):
    real_loss = (1.0 - amount) * real_term(real) + amount * fake_term(real)
    return real_loss.mean() + fake_term(fake).mean()

  # The terms contain no weights, so D's loss gets its weight here. G's loss
  # has its weight already.
  smoothed = _weighted(
    loss._replace(discriminator=discriminator), d_weight, g_weight
  )
  return smoothed._replace(generator=loss.generator)


def _separate(
  real_term: Term, fake_term: Term, g_term: Term, **fields: Any
) -> Loss:
  """Returns a loss in which every image is judged alone.

  Args:
    real_term: what D's loss makes of a real logit.
    fake_term: what D's loss makes of a fake logit.
    g_term: what G's loss makes of a fake logit.
    **fields: other fields of `Loss`.
  """

  def discriminator(real_logits, fake_logits):
    return real_term(real_logits).mean() + fake_term(fake_logits).mean()

  def generator(real_logits, fake_logits):
    del real_logits
    return g_term(fake_logits).mean()

  return Loss(discriminator, generator, terms=(real_term, fake_term), **fields)


# log D(x) and log(1 - D(x)) as softplus of the logit: the logarithm of a
# sigmoid is -inf in float32 where D is sure.


def _log_real(logits):
  """-log D(x)."""
  return jax.nn.softplus(-logits)


def _log_fake(logits):
  """-log(1 - D(x))."""
  return jax.nn.softplus(logits)


@LOSSES.register
def minimax() -> Loss:
  """The zero-sum game (Goodfellow et al. 2014, eq. 1).

  D: -E log D(x) - E log(1 - D(G(z))). G: E log(1 - D(G(z))), whose gradient
  vanishes where D is sure that a sample is fake.
  """
  return _separate(_log_real, _log_fake, lambda f: -_log_fake(f))


@LOSSES.register
def non_saturating() -> Loss:
  """G maximises log D(G(z)) instead (Goodfellow et al. 2014, section 3).

  Same fixed point as `minimax`; per sample the generator's gradient points
  the same way and is (1 - D) / D times as long.
  """
  return _separate(_log_real, _log_fake, _log_real, symmetric=True)


@LOSSES.register
def least_squares(
  fake_target: float = 0.0,
  real_target: float = 1.0,
  generator_target: float = 1.0,
) -> Loss:
  """LSGAN (Mao et al. 2017, eq. 2) without its factors 1/2.

  Args:
    fake_target: the paper's a, the label of fakes in D's loss.
    real_target: the paper's b, the label of real images in D's loss. With
      relativism the targets of differences of logits are b and -b.
    generator_target: the paper's c, what G wants D to say of fakes.

  Returns:
    D: E (r - b)^2 + E (f - a)^2. G: E (f - c)^2.

  Raises:
    UserError: a = b, which leaves D nothing to learn.
  """
  if fake_target == real_target:
    raise errors.UserError(
      "loss 'least_squares': fake_target and real_target are both "
      f"{real_target}"
    )
  width = real_target - fake_target
  return _separate(
    real_term=lambda r: jnp.square(r - real_target),
    fake_term=lambda f: jnp.square(f - fake_target),
    g_term=lambda f: jnp.square(f - generator_target),
    # D* = (b p_data + a p_g) / (p_data + p_g) (Mao et al. 2017, eq. 5).
    probability=lambda y: jnp.clip((y - fake_target) / width, 0.0, 1.0),
    # In a relativistic form G wants what D wants, so its target must be D's.
    symmetric=generator_target == real_target,
  )


@LOSSES.register
def hinge() -> Loss:
  """The geometric GAN (Lim & Ye 2017; Miyato et al. 2018, eqs. 16-17).

  D: E max(0, 1 - r) + E max(0, 1 + f). G: -E f.
  """
  return _separate(
    real_term=lambda r: jax.nn.relu(1.0 - r),
    fake_term=lambda f: jax.nn.relu(1.0 + f),
    g_term=lambda f: -f,
    # The optimal logit is the sign of p_data - p_g, which does not tell how
    # much the densities differ: only D(x) = 1/2 is in its true place.
    probability=lambda y: jnp.clip((1.0 + y) / 2.0, 0.0, 1.0),
    symmetric=True,
  )


@LOSSES.register
def wasserstein() -> Loss:
  """WGAN (Arjovsky et al. 2017, eq. 2): D: E f - E r. G: -E f.

  It bounds a distance only while D is kept Lipschitz, by a penalty or by
  clipping; alone it diverges.
  """
  loss = _separate(lambda r: -r, lambda f: f, lambda f: -f)
  # Its terms are of no use alone: a label has no meaning for a distance.
  return loss._replace(terms=None, shift_invariant=True)


@LOSSES.register
def f_divergence(
  divergence: str = "jensen_shannon", saturating: bool = False
) -> Loss:
  """The variational form of an f-divergence (Nowozin et al. 2016, eq. 6).

  D: -E T(r) + E f*(T(f)). G: -E f*(T(f)) if `saturating`, which is the
  zero-sum game; else -E T(f), the alternative of their section 3.2.

  Args:
    divergence: a name in `divergences.DIVERGENCES`, or `module:attribute`; P
      is the data.
    saturating: whether G minimises the divergence's own bound.

  Raises:
    UserError: there is no such divergence.
  """
  form = divergences.DIVERGENCES.find(divergence)()

  def raise_output(f):
    return -form.output(f)

  def lower_bound(f):
    return -form.conjugate(f)

  return _separate(
    real_term=lambda r: -form.output(r),
    fake_term=form.conjugate,
    g_term=lower_bound if saturating else raise_output,
    probability=form.probability,
  )
