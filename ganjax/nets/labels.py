"""How networks go by labels: conditions, one-hot vectors, last layers of D."""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets.judged import Judged


class Conditional(Protocol):
  """A network that may go by labels."""

  @property
  def conditional(self) -> bool:
    """Whether it does."""
    ...

  @property
  def num_classes(self) -> int:
    """Of the dataset's labels, 0 where there are none."""
    ...


def condition(
  net: Conditional, labels: jax.Array | None, optional: bool = False
) -> jax.Array | None:
  """Returns the labels that a net goes by, or None if it goes by none.

  Args:
    net: the network.
    labels: `[N]`, or None.
    optional: whether a conditional net does without labels where the dataset
      has none. For nets that are conditional by default.

  Returns:
    Labels `[N]`, or None.

  Raises:
    UserError: the net goes by labels and there are none.
  """
  if not net.conditional or (optional and not net.num_classes):
    return None
  if labels is None or not net.num_classes:
    name = type(net).__module__.rpartition(".")[2]
    role = type(net).__name__.lower()
    raise errors.UserError(
      f"net {name!r} with conditional=True needs labels: give them, choose a "
      f"dataset that has some, or set config.{role}.conditional=False"
    )
  return labels


def beside_classes(
  net: Conditional, x: jax.Array, labels: jax.Array | None
) -> jax.Array:
  """Returns x and beside it the label as a one-hot vector.

  Mirza & Osindero 2014. Beside an image the vector is as many channels as
  there are classes, of which one is 1 everywhere and the others are 0.

  Args:
    net: the network, which says whether it goes by labels.
    x: `[N, ..., C]`.
    labels: `[N]`, or None.

  Returns:
    `[N, ..., C + num_classes]`, or x if the net goes by no labels.

  Raises:
    UserError: the net goes by labels and there are none.
  """
  labels = condition(net, labels)
  if labels is None:
    return x
  classes = jax.nn.one_hot(labels, net.num_classes, dtype=x.dtype)
  classes = classes.reshape(len(x), *(1,) * (x.ndim - 2), -1)
  classes = jnp.broadcast_to(classes, (*x.shape[:-1], net.num_classes))
  return jnp.concatenate([x, classes], -1)


def head(
  kind: str,
  linear: Callable[..., Callable[[jax.Array], jax.Array]],
  features: jax.Array,
  *,
  labels: jax.Array | None,
  num_classes: int,
) -> Judged:
  """Applies the last layer of a discriminator.

  Args:
    kind: of the layer. "linear"; "projection", which adds the inner product
      of the features and the label's embedding (Miyato & Koyama 2018,
      equation 3); or "auxiliary", which has logits of classes, too, for a
      loss that reads them (Odena et al. 2017).
    linear: `(outputs, **fields)` -> a dense layer with these fields of
      `nn.Dense`.
    features: `[N, F]`.
    labels: `[N]`, or `[N * k]` where a row of features is of k images; or None.
    num_classes: of the labels.

  Returns:
    Logits `[N]`, the features, and of an auxiliary head the class logits
    `[N, num_classes]`.

  Raises:
    UserError: no such head, or one that needs labels without them.
  """
  has_what_it_needs = {
    "linear": True,
    "projection": num_classes > 0 and labels is not None,
    # Its labels are the loss's business: D itself sees none.
    "auxiliary": num_classes > 0,
  }
  if kind not in has_what_it_needs:
    raise errors.unknown("head", kind, has_what_it_needs)
  if not has_what_it_needs[kind]:
    raise errors.UserError(
      f"config.discriminator.head={kind!r} needs labels: give them, "
      "take a dataset that has some, or set it to 'linear'"
    )
  logits = linear(1)(features)[:, 0]
  class_logits = None
  if kind == "projection":
    classes = jax.nn.one_hot(labels, num_classes, dtype=features.dtype)
    # A dense layer of one-hot vectors is an embedding with a kernel, which
    # spectral norm can normalise as it does every other one.
    embed = linear(features.shape[-1], use_bias=False, name="embed")
    embedded = embed(classes.reshape(len(features), -1))
    logits += (embedded * features).sum(-1)
  if kind == "auxiliary":
    class_logits = linear(num_classes, name="classes")(features)
  return Judged(logits, features, class_logits)
