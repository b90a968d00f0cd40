"""Top-k training of the generator (Sinha et al. 2020, arXiv 2002.06224)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ganjax import errors


def share_schedule(share: float, steps: int) -> Callable[[Any], Any] | None:
  """Returns step -> the share of fakes that count for G, or None for all.

  The share falls from 1 to `share` by the same factor in each of `steps`
  generator updates. The paper lets it fall so, but once an epoch: by a factor
  of 0.99 down to 0.5, which takes 69 epochs.

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


def best(
  share: Callable[[Any], Any] | None, logits: jax.Array, step: Any
) -> jax.Array:
  """Returns `[N]` logits among which only the k largest are left.

  That is the paper's algorithm 1, with k the rounded share of N: G is told of
  no fakes but those that D finds most real. Each of the k takes as many of the
  N places as any other, or one more where k does not divide N, so that every
  mean over N becomes one over the k. A relativistic loss, too, then sees a
  batch of the best: its reals are all there, in their random order, and its
  mean of fakes is that of the k.

  Args:
    share: of `share_schedule`.
    logits: of the global batch's fakes.
    step: generator updates so far.
  """
  if share is None:
    return logits
  n = len(logits)
  k = jnp.clip(jnp.round(share(step) * n), 1, n).astype(jnp.int32)
  # k is traced, so the array keeps its N places; see above what fills them.
  places = jnp.arange(n) * k // n
  return jnp.sort(logits, descending=True)[places]
