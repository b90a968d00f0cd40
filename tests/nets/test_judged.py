"""Laws of all discriminators: what they return, and what their features are."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import nets
from ganjax.nets.judged import Judged

N, NUM_CLASSES = 4, 3
LABELS = jnp.array([0, 2, 1, 1])
DCGAN = dict(width=2)
CNN2014 = dict(channels=(4, 4, 4), hidden=8)
R3GAN = dict(widths=(8, 4), num_blocks=1, group_size=4)

# A case is the net, the size of its images and its fields; with every net in
# some case, and every way to a logit.
CASES = [
  ("mlp", 4, dict(hidden=(6, 5))),
  ("mlp", 4, dict(hidden=(6, 5), conditional=True)),
  ("mlp", 4, dict(hidden=())),
  ("dcgan", 8, DCGAN),
  ("dcgan", 8, DCGAN | dict(pack=2)),
  ("dcgan", 8, DCGAN | dict(norm="spectral", conditional=True)),
  ("dcgan", 8, DCGAN | dict(norm="none", head="projection", pack=2)),
  ("dcgan", 8, DCGAN | dict(norm="spectral", head="auxiliary")),
  ("cnn", 8, dict(width=2)),
  ("cnn", 8, dict(width=2, norm="batch")),
  ("cnn2014", 8, CNN2014),
  ("resnet", 8, dict(width=2)),
  ("resnet", 8, dict(width=2, norm="none", head="projection")),
  ("resnet", 8, dict(width=2, head="auxiliary")),
  # Of 32 pixels at least, so that they compile for long.
  pytest.param("sagan", 32, dict(width=2), marks=pytest.mark.slow),
  pytest.param(
    "biggan", 32, dict(width=2, conditional=False), marks=pytest.mark.slow
  ),
  ("r3gan", 8, R3GAN),
  ("r3gan", 8, R3GAN | dict(conditional=True)),
]


def is_linear(name, fields):
  """Whether the logit is a linear function of the features alone."""
  if name in ("sagan", "biggan"):
    return not fields.get("conditional", True)
  if name == "r3gan":
    return not fields.get("conditional", False)
  return fields.get("head", "linear") != "projection"


def listen(function, *args):
  """Returns what a function returns, and the last dense layer of one output.

  Of the layer: its input, its kernel and its bias, as they are applied. Where
  no dense layer has one output, it is the last one of any.
  """
  seen = {}

  def intercept(next_function, args, kwargs, context):
    if isinstance(context.module, nn.Dense) and context.method_name == (
      "__call__"
    ):
      params = context.module.variables.get("params", {})
      seen[context.module.features == 1] = args[0], dict(params)
    return next_function(*args, **kwargs)

  with nn.intercept_methods(intercept):
    output = function(*args)
  return output, seen[max(seen)]


def judge(net, shape):
  """Returns what a net makes of random images, and of its last dense layer."""
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  images = jax.random.normal(jax.random.key(2), (N, *shape))

  @jax.jit
  def run():
    variables = net.init(keys, images, LABELS)
    rngs = {"dropout": keys["dropout"]}

    def apply(variables):
      return net.apply(
        variables, images, LABELS, rngs=rngs, mutable=["batch_stats"]
      )[0]

    return listen(apply, variables)

  return run()


@pytest.mark.parametrize(("name", "size", "fields"), CASES)
def test_features_enter_the_last_dense_layer(name, size, fields):
  shape = (size, size, 2)
  net = nets.get(name, "discriminator", shape, NUM_CLASSES, **fields)
  judged, (seen, layer) = judge(net, shape)
  assert isinstance(judged, Judged)
  count = N // fields.get("pack", 1)
  assert judged.logits.shape == (count,)
  assert judged.features.ndim == 2 and judged.features.shape[0] == count
  for leaf in jax.tree.leaves(judged):
    assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all()
  # They are what `nn.Dense` was given, to the last bit and in its order.
  np.testing.assert_array_equal(judged.features, seen)
  assert np.std(judged.features) > 0
  if is_linear(name, fields):
    logits = judged.features @ layer["kernel"][:, 0] + layer.get("bias", 0.0)
    np.testing.assert_allclose(judged.logits, logits, rtol=1e-4, atol=1e-6)
  if fields.get("head") == "auxiliary":
    assert judged.class_logits.shape == (count, NUM_CLASSES)
  else:
    assert judged.class_logits is None


def test_no_discriminator_is_left_out():
  covered = {getattr(case, "values", case)[0] for case in CASES}
  assert covered == {*nets.names()}


def test_points_are_judged_alike():
  net = nets.get("mlp", "discriminator", (2,), hidden=(6, 5), pieces=1)
  judged, (seen, layer) = judge(net, (2,))
  assert judged.logits.shape == (N,) and judged.features.shape == (N, 5)
  np.testing.assert_array_equal(judged.features, seen)
  logits = judged.features @ layer["kernel"][:, 0] + layer["bias"]
  np.testing.assert_allclose(judged.logits, logits, rtol=1e-5)


def test_bare_logits_are_judged_too():
  logits = jnp.ones(3)
  assert Judged.of(logits) == (logits, None, None)
  judged = Judged(logits, features=jnp.ones((3, 2)))
  assert Judged.of(judged) is judged
