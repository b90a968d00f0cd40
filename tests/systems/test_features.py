"""What a discriminator's features are, and that they can be learnt from."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors, nets
from ganjax import state as states
from ganjax.systems import features


class Judge(nn.Module):
  """Features `[n, 3]`, then a logit of them, then an embedding of labels."""

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    """Maps `[n, 2]` to logits `[n]`."""
    x = jnp.tanh(nn.Dense(3, name="hidden")(x))
    logits = nn.Dense(1, name="head")(x)[:, 0]
    if labels is not None:
      logits += nn.Dense(3, name="classes")(jax.nn.one_hot(labels, 2)).sum(-1)
    return logits


def test_features_are_what_the_head_sees():
  x = jnp.array([[1.0, 2.0], [-1.0, 0.5]])
  params: Any = Judge().init(jax.random.key(0), x, jnp.array([0, 1]))
  logits, seen = features.watch(Judge().apply, params, x, jnp.array([0, 1]))
  hidden = params["params"]["hidden"]
  by_hand = np.tanh(x @ hidden["kernel"] + hidden["bias"][None])
  np.testing.assert_allclose(seen, by_hand, atol=1e-6)
  expected: Any = Judge().apply(params, x, jnp.array([0, 1]))
  np.testing.assert_allclose(logits, expected)


def test_their_gradient_is_that_of_the_layers_below():
  x = jnp.array([[0.3, -0.2]])
  params: Any = Judge().init(jax.random.key(0), x)

  def total(x):
    return features.watch(Judge().apply, params, x)[1].sum()

  hidden = params["params"]["hidden"]
  slope = 1 - np.tanh(x @ hidden["kernel"] + hidden["bias"][None]) ** 2
  by_hand = slope @ hidden["kernel"].T
  np.testing.assert_allclose(jax.grad(total)(x), by_hand, atol=1e-6)


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_a_head_within_a_spectral_norm_is_seen(norm):
  net = nets.get("dcgan", "discriminator", (8, 8, 1), width=4, norm=norm)
  x = jnp.ones((2, 8, 8, 1))
  stats = dict(net.init(jax.random.key(0), x))
  params = stats.pop("params")
  (logits, _), seen = features.watch(
    states.forward, net, params, stats, x, key=jax.random.key(1)
  )
  assert (logits.shape, seen.shape) == ((2,), (2, 4 * 4 * 4))


@pytest.mark.parametrize("name", nets.names())
def test_every_discriminator_has_some(name):
  net = nets.get(name, "discriminator", (32, 32, 3), 10)
  images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)
  labels = jax.ShapeDtypeStruct((4,), jnp.int32)

  def see(images, labels):
    key = jax.random.key(0)
    stats = dict(net.init({"params": key, "dropout": key}, images, labels))
    net_of = net, stats.pop("params"), stats
    return features.watch(states.forward, *net_of, images, labels, key=key)

  (logits, _), seen = jax.eval_shape(see, images, labels)
  assert logits.shape == (4,) and seen.shape[0] == 4 and seen.shape[1] >= 128


def test_a_network_without_a_dense_layer_is_refused():
  with pytest.raises(errors.UserError, match="not a dense one"):
    features.watch(lambda x: x, jnp.ones(2))
