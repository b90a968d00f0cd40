"""Devices that share a batch compute what one device computes of all of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import nets, parallel

# The smallest images of which dcgan's D normalises a layer.
N, SHAPE, NUM_CLASSES = 8, (16, 16, 2), 3
LABELS = np.array([0, 2, 1, 1, 0, 0, 2, 1], np.int32)

# All that a net may say to other devices: batch norms of each kind, dropout.
NETS = {
  "batch norm of G": ("dcgan", "generator", dict(width=2)),
  "batch norm of D": ("dcgan", "discriminator", dict(width=2)),
  "conditional batch norm": (
    "resnet",
    "generator",
    dict(width=2, conditional=True),
  ),
  "self-modulated batch norm": (
    "resnet",
    "generator",
    dict(width=2, norm="self_modulated"),
  ),
  "dropout": ("mlp", "discriminator", dict(hidden=(6, 5), init_range=0.5)),
}


def make_step(net, stats):
  """Returns a device's `(params, x, labels, weights) -> ...`, not compiled.

  Its gradients, of a mean over the global batch, and its new statistics are
  the same on all devices; its outputs are those of its own examples.
  """

  def step(params, x, labels, weights):
    def loss_fn(params):
      y, new = net.apply(
        {"params": params, **stats},
        x,
        labels,
        rngs={"dropout": jax.random.key(5)},
        mutable=[*stats],
      )
      outputs = jax.tree.leaves(y)
      return (weights * outputs[0]).mean(), (outputs, new)

    grads, (outputs, new) = jax.grad(loss_fn, has_aux=True)(params)
    return outputs, new, parallel.mean(grads)

  return step


@functools.cache
def initialised(kind):
  name, role, fields = NETS[kind]
  net = nets.get(name, role, SHAPE, NUM_CLASSES, **fields)
  rng = np.random.RandomState(0)
  shape = (N, 6) if role == "generator" else (N, *SHAPE)
  x = rng.normal(size=shape).astype(np.float32)
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  variables = dict(jax.jit(net.init)(keys, x, LABELS))
  # No parameter is 0: gradients reach all of them.
  params = jax.tree.map(
    lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32),
    variables.pop("params"),
  )
  shape = (N, *SHAPE) if role == "generator" else (N,)
  weights = rng.normal(size=shape).astype(np.float32)
  step = make_step(net, variables)
  whole = jax.jit(step)(params, x, LABELS, weights)
  return step, (params, x, LABELS, weights), jax.device_get(whole), variables


@pytest.mark.parametrize("num_devices", [1, 2, 4])
@pytest.mark.parametrize("kind", NETS)
def test_devices_equal_one_device_on_the_whole_batch(kind, num_devices):
  step, (params, *examples), whole, _ = initialised(kind)
  mapped = jax.pmap(
    step,
    axis_name=parallel.AXIS,
    in_axes=(None, 0, 0, 0),
    devices=jax.devices()[:num_devices],
  )
  shares = [np.stack(np.split(x, num_devices)) for x in examples]
  outputs, new, grads = jax.device_get(mapped(params, *shares))
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  joined = [x.reshape(-1, *x.shape[2:]) for x in outputs]
  jax.tree.map(close, joined, whole[0])
  for i in range(num_devices):
    of_device = jax.tree.map(lambda x, i=i: x[i], (new, grads))
    jax.tree.map(close, of_device, whole[1:])


@pytest.mark.parametrize("kind", NETS)
def test_a_share_alone_would_be_another(kind):
  """Else the test above would prove nothing."""
  step, (params, *examples), whole, stats = initialised(kind)
  second = [x[N // 2 :] for x in examples]
  outputs, new, _ = jax.device_get(jax.jit(step)(params, *second))
  assert np.abs(outputs[0] - whole[0][0][N // 2 :]).max() > 1e-3
  if "batch_stats" in stats:
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), new, whole[1])
    assert max(jax.tree.leaves(moved["batch_stats"])) > 1e-4


def test_evaluation_says_nothing_to_other_devices():
  """Running statistics are there already: no collective, mapped or not."""
  net = nets.get("dcgan", "generator", SHAPE, width=2)
  z = jnp.zeros((2, 6))
  variables = jax.eval_shape(net.init, jax.random.key(0), z)

  def text(train):
    apply = functools.partial(net.apply, train=train, mutable=["batch_stats"])
    mapped = jax.pmap(apply, axis_name=parallel.AXIS, in_axes=(None, 0))
    return str(jax.make_jaxpr(mapped)(variables, z[None]))

  assert "psum" in text(train=True)
  assert "psum" not in text(train=False)
