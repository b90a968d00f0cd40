"""What a step may do with latents, fakes and features on its way.

Each is off where its part of `adversarial.Parts` is None, and then leaves no
trace. What is to be added to a player's loss, or only logged, is a dict
`name -> (value, weight)`: of a scalar mean over this device's examples, and of
its factor in the loss, 0 for the log alone. `penalise` adds and logs it.
"""

import functools
import math
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ganjax import errors
from ganjax.objectives.penalties import Penalty, View
from ganjax.systems import features

Extras = dict[str, tuple[jax.Array, float]]

# Distributions of z that end somewhere, see `latents.uniform`; others do not.
BOUNDS = {"uniform": math.sqrt(3.0)}


class LatentStep(NamedTuple):
  """One step of z towards what D takes for real (LOGAN, Wu et al. 2019).

  A natural gradient with the damped empirical Fisher matrix g g' + damping I
  of g = df/dz, f(z) being D's logit of G(z) (arXiv 1912.00953, section 3.2):

      dz = size * g / (damping + |g|^2), never longer than size / 2 sqrt damping

  Both players then see G(z + dz), and their gradients go through dz.

  Attributes:
    size: the paper's alpha.
    damping: the paper's beta.
    weight: of the mean |dz|^2 in both players' losses.
    bound: z + dz is clipped to [-bound, bound]; None for never.
  """

  size: float
  damping: float
  weight: float
  bound: float | None

  def __call__(
    self, score: Callable[[jax.Array], jax.Array], z: jax.Array
  ) -> tuple[jax.Array, Extras]:
    """Returns z `[n, z_dim]` after the step, and what the step costs.

    Args:
      score: f, `z [n, z_dim]` -> logits `[n]`. The gradient is of their sum,
        so with batch norm an example also moves for the sake of others.
      z: as it was drawn.
    """
    g = jax.grad(lambda z: score(z).sum())(z)
    dz = self.size * g / (self.damping + jnp.square(g).sum(1, keepdims=True))
    moved = z + dz
    if self.bound is not None:
      moved = jnp.clip(moved, -self.bound, self.bound)
    shift = jnp.square(dz).sum(1).mean()
    return moved, {"latent_shift": (shift, self.weight)}


def latent_step(
  size: float, damping: float, weight: float, latent: str
) -> LatentStep | None:
  """Returns the step of z, or None if its size is 0; see `LatentStep`.

  Args:
    size: of the step.
    damping: of the step.
    weight: of its cost.
    latent: the distribution of z. The paper's is U(-1, 1), clipped after the
      step. Ours of that form is wider by sqrt 3, and clipped there; a normal z
      is not clipped.

  Raises:
    UserError: a number is out of range.
  """
  if size < 0 or damping <= 0 or weight < 0:
    raise errors.UserError(
      f"config.system.latent_step={size} must be 0 or more, "
      f"latent_damping={damping} above 0 and latent_weight={weight} 0 or more"
    )
  bound = BOUNDS.get(latent)
  return LatentStep(size, damping, weight, bound) if size else None


def share_schedule(share: float, steps: int) -> Callable[[Any], Any] | None:
  """Returns step -> the share of fakes that count for G, or None for all.

  It falls from 1 to `share` by the same factor in each of `steps` generator
  updates. Sinha et al. 2020 (arXiv 2002.06224) let it fall so, but once an
  epoch: by a factor of 0.99 down to 0.5, which takes 69 epochs.

  Args:
    share: in the end, above 0; 1 for all fakes from first to last.
    steps: how many; 0 to begin with `share`.

  Raises:
    UserError: a number is out of range.
  """
  if not 0 < share <= 1 or steps < 0:
    raise errors.UserError(
      f"config.system.top_k={share} must be above 0 and at most 1, and "
      f"top_k_steps={steps} 0 or more"
    )
  if share == 1:
    return None
  if not steps:
    return lambda step: share
  return optax.exponential_decay(1.0, steps, share, end_value=share)


def best(share: Callable[[Any], Any] | None, logits: jax.Array, step):
  """Returns `[N]` logits among which only the k largest are left.

  That is top-k training of G (Sinha et al. 2020, algorithm 1), k being the
  rounded share of N: G is told of no fakes but those that D finds most real.
  Each of the k takes as many of the N places as any other, or one more where k
  does not divide N, so that every mean over N becomes one over the k.
  A relativistic loss, too, then sees a batch of the best: its reals are all
  there, in their random order, and its mean of fakes is that of the k.

  Args:
    share: of `share_schedule`.
    logits: of the global batch's fakes.
    step: generator updates so far.
  """
  if share is None:
    return logits
  n = len(logits)
  k = jnp.clip(jnp.round(share(step) * n), 1, n).astype(jnp.int32)
  places = jnp.arange(n) * k // n
  return jnp.sort(logits, descending=True)[places]


def recognise(
  recogniser: Callable[..., tuple[Any, Extras]] | None,
  params: Any,
  z: jax.Array,
  labels: Any,
  judge: Callable[..., Any],
) -> Callable[..., tuple[Any, Extras]]:
  """Returns `judge` such that it also tells what is recognised in the images.

  Args:
    recogniser: `(judge, params, z, labels) -> (its output, extras)`, `judge`
      without arguments; or None.
    params: of the discriminator and of what belongs to it.
    z: of the fakes, `[n, z_dim]`.
    labels: of reals and fakes, `[n]`, or None.
    judge: applies D once or more; to fakes in the end.
  """

  def judge_and_recognise(*args, **kwargs):
    if recogniser is None:
      return judge(*args, **kwargs), {}
    now = functools.partial(judge, *args, **kwargs)
    return recogniser(now, params, z, labels)

  return judge_and_recognise


def auxiliary_classifier(weight: float) -> Callable[..., Any] | None:
  """Returns the recogniser of an AC-GAN (Odena et al. 2017), None for 0.

  D learns the class of reals and fakes, G to make images of their class: the
  mean of both log-likelihoods (L_C, equation 3, halved) times `weight` is added
  to D's loss and to G's, where that of reals does not matter.

  Raises:
    UserError: the weight is negative; when called without labels.
  """
  if weight < 0:
    raise errors.UserError(
      f"config.system.auxiliary_weight={weight} must be 0 or more"
    )

  def recogniser(judge, params, z, labels):
    del params, z
    if labels is None:
      raise errors.UserError(
        "config.system.auxiliary_weight needs labels: choose a dataset that "
        "has some, or set it to 0"
      )
    output, logits = features.watch_classes(judge)
    both = jnp.concatenate([labels] * len(logits))
    logits = jnp.concatenate(logits).astype(jnp.float32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, both)
    right = logits.argmax(1) == both
    extras: Extras = {
      "class_loss": (loss.mean(), weight),
      "class_accuracy": (right.mean(), 0.0),
    }
    return output, extras

  return recogniser if weight else None


def penalise(
  penalties: Mapping[str, Penalty],
  player: str,
  skip: Container[str],
  view: View,
  memory: dict,
  extras: Extras,
) -> tuple[jax.Array, dict, dict]:
  """Returns what is added to a player's loss, the new memory, metrics.

  Args:
    penalties: name -> penalty.
    player: "discriminator" or "generator".
    skip: names of the penalties that rest in this step.
    view: of this player's loss.
    memory: of the state.
    extras: of the refinements.
  """
  total, metrics = jnp.float32(0), {}
  for name, (value, weight) in extras.items():
    if weight:
      total += weight * value
    metrics[name] = view.mean(value)
  for i, (name, penalty) in enumerate(penalties.items()):
    function = getattr(penalty, player)
    metric = metric_name(name, penalty, player)
    if function is None:
      continue
    if name in skip:  # Its last value stands in the log.
      metrics[metric] = memory[metric]
      continue
    own = jax.vmap(functools.partial(jax.random.fold_in, data=i))(view.keys)
    value, remembered = function(view._replace(keys=own), memory.get(name))
    total += penalty.every * value
    metrics[metric] = view.mean(value)
    new = {name: remembered, metric: metrics[metric]}
    memory = memory | {k: new[k] for k in new if k in memory}
  return total, memory, metrics


def metric_name(name: str, penalty: Penalty, player: str) -> str:
  """Returns `penalty_r1`, or `penalty_x_d` where both players have one."""
  both = penalty.discriminator is not None and penalty.generator is not None
  return f"penalty_{name}_{player[0]}" if both else f"penalty_{name}"
