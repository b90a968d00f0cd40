"""What a GAN's step makes of a net's packs and of its spectral norm."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import data, nets
from ganjax.objectives import losses, optimizers, penalties
from ganjax.systems.gan import GAN

SHAPE = (8, 8, 1)
IMAGES = np.random.RandomState(0).uniform(-1, 1, (16, *SHAPE))
IMAGES = IMAGES.astype(np.float32)


def test_packs_train():
  """Two steps: a relativistic loss, a penalty on each image's gradient."""
  shape = (8, 8, 2)
  pack = dict(width=2, pack=4, norm="none")
  rng = np.random.RandomState(0)
  images = rng.uniform(-1, 1, (2, 8, *shape)).astype(np.float32)
  sgd = optimizers.get("sgd", learning_rate=0.1)
  system = GAN(
    generator=nets.get("dcgan", "generator", shape, width=2),
    discriminator=nets.get("dcgan", "discriminator", shape, **pack),
    loss=losses.get("non_saturating", relativism="average"),
    g_opt=sgd,
    d_opt=sgd,
    penalties={"gradient_penalty": penalties.get("gradient_penalty")},
    z_dim=4,
  )
  state = jax.jit(system.init)(jax.random.key(0), data.Arrays(images[0]))
  step = jax.jit(system.train_step)
  for i in range(2):
    new, metrics = step(state, data.Arrays(images), jax.random.key(i))
    assert all(np.isfinite(x) for x in metrics.values())
    for player in "generator", "discriminator":
      moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()),
        getattr(new, player).params,
        getattr(state, player).params,
      )
      assert max(jax.tree.leaves(moved)) > 0
    state = new


def iterate(kernel, u):
  """A power iteration by hand; returns u, v and the norm u W v."""
  w = np.asarray(kernel).reshape(-1, kernel.shape[-1])
  v = w @ u / np.linalg.norm(w @ u)
  u = v @ w / np.linalg.norm(v @ w)
  return u, v, v @ w @ u


def largest(kernel):
  matrix = np.asarray(kernel).reshape(-1, kernel.shape[-1])
  return np.linalg.svd(matrix, compute_uv=False)[0]


def make(**named):
  judge = dict(width=3, norm="spectral")
  sgd = optimizers.get("sgd", learning_rate=0.1)
  return GAN(
    generator=nets.get("dcgan", "generator", SHAPE, width=2),
    discriminator=nets.get("dcgan", "discriminator", SHAPE, **judge),
    loss=losses.get("hinge"),
    g_opt=sgd,
    d_opt=sgd,
    penalties=named,
    z_dim=4,
  )


def fresh(system):
  arrays = data.Arrays(jnp.asarray(IMAGES))
  return jax.jit(system.init)(jax.random.key(0), arrays)


def test_one_iteration_for_each_update_of_the_discriminator():
  # A penalty looks at D once more, and does not count.
  system = make(r1=penalties.get("r1", gamma=1.0))
  state, key = fresh(system), jax.random.key(1)
  real = data.Arrays(jnp.asarray(IMAGES[:8]))
  d_step = jax.jit(system.discriminator_step)
  new, metrics = d_step(state, real, key)
  params = state.discriminator.params
  sigmas = []
  pairs = zip(("Conv_0", "Dense_0"), _by_layer(state), strict=True)
  for (layer, old), stored in zip(pairs, _by_layer(new), strict=True):
    kernel = params[layer]["kernel"]
    u, v, sigma = iterate(kernel, np.asarray(old["u"]))
    np.testing.assert_allclose(stored["u"], u, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stored["v"], v, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stored["sigma"], sigma, rtol=1e-5)
    sigmas.append(largest(kernel))
  np.testing.assert_allclose(metrics["d_sigma_max"], max(sigmas), rtol=0.02)
  # The generator's update leaves D's vectors as they are.
  train_step = jax.jit(system.train_step)
  after, metrics = train_step(state, jax.tree.map(lambda x: x[None], real), key)
  same = d_step(state, real, jax.random.fold_in(key, 0))[0].discriminator
  np.testing.assert_allclose(
    metrics["d_sigma_max"],
    max(x["sigma"] for x in same.stats["spectral"].values()),
    rtol=1e-6,
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
    after.discriminator.stats,
    same.stats,
  )
  assert "spectral" not in after.generator.stats


def _by_layer(state):
  """Returns what is stored of each layer, from the first to the head."""
  stored = state.discriminator.stats["spectral"]
  return [stored[name] for name in sorted(stored)]
