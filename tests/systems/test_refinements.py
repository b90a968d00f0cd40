"""Top-k training and the step of latents: by hand, and on many devices."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import largest_difference

from ganjax import data, errors, parallel
from ganjax.nets import norms
from ganjax.objectives import latents, losses, optimizers
from ganjax.runs import configs
from ganjax.runs import run as runs
from ganjax.systems import logan, top_k
from ganjax.systems.gan import GAN
from ganjax.systems.logan import LatentStep
from ganjax.training import program

LOGITS = jnp.array([1.0, -2.0, 3.0, 0.0])
REAL = jnp.array([0.5, 2.0, -1.0, 4.0])


def half(step):
  del step
  return 0.5


# Top k.


def test_the_best_of_four_by_hand():
  best = top_k.best(half, LOGITS, 0)
  assert best.tolist() == [3, 3, 1, 1]
  # Of three the first place is left over.
  three = top_k.best(lambda step: 0.75, LOGITS, 0)
  assert three.tolist() == [3, 3, 1, 0]
  assert top_k.best(lambda step: 0.01, LOGITS, 0).tolist() == [3] * 4
  assert top_k.best(None, LOGITS, 0) is LOGITS


def test_a_generator_is_told_of_the_best_alone():
  """Its gradient is that of the mean over the k, and 0 elsewhere."""
  loss = losses.get("non_saturating")
  of_best = lambda x: loss.generator(REAL, top_k.best(half, x, 0))
  value, grad = jax.value_and_grad(of_best)(LOGITS)
  np.testing.assert_allclose(value, np.log1p(np.exp([-3.0, -1])).mean(), 1e-6)
  pull = lambda x: -1 / (1 + np.exp(x)) / 2
  np.testing.assert_allclose(grad, [pull(1), 0, pull(3), 0], rtol=1e-6)


def test_relativistic_losses_compare_the_best_with_all_reals():
  """Least squares, target 1, of fakes (3, 3, 1, 1) and reals of mean 11/8."""
  best, real = top_k.best(half, LOGITS, 0), np.array(REAL)
  fake = np.array([3.0, 3, 1, 1])
  pairs = np.square(fake - real - 1).mean()
  loss = losses.get("least_squares", relativism="pairing")
  np.testing.assert_allclose(loss.generator(REAL, best), pairs, rtol=1e-6)
  means = np.square(fake - 11 / 8 - 1).mean(), np.square(2 - real - 1).mean()
  loss = losses.get("least_squares", relativism="average")
  got = loss.generator(REAL, best)
  np.testing.assert_allclose(got, np.mean(means), rtol=1e-6)


def test_the_share_falls_by_the_same_factor():
  share: Any = top_k.share_schedule(0.25, 4)
  got = [float(share(step)) for step in (0, 1, 2, 3, 4, 9)]
  expected = [1, 0.5**0.5, 0.5, 0.5**1.5, 0.25, 0.25]
  np.testing.assert_allclose(got, expected, rtol=1e-6)
  counts = [
    len(np.unique(top_k.best(share, jnp.arange(64.0), step)))
    for step in range(6)
  ]
  assert counts == [64, 45, 32, 23, 16, 16]
  at_once: Any = top_k.share_schedule(0.25, 0)
  assert at_once(0) == 0.25
  assert top_k.share_schedule(1.0, 5) is None


# The step of z.


def test_a_step_of_z_by_hand():
  w, z = jnp.array([3.0, 4.0]), jnp.array([[0.0, 1.0], [0.5, -1.0]])
  step = LatentStep(size=0.5, damping=5.0, weight=7.0, bound=None)
  moved, extras = step(lambda z: z @ w, z)
  dz = 0.5 * np.array([3.0, 4.0]) / (5 + 25)
  np.testing.assert_allclose(moved - z, np.tile(dz, (2, 1)), rtol=1e-5)
  assert extras["latent_shift"][1] == 7
  np.testing.assert_allclose(extras["latent_shift"][0], dz @ dz, rtol=1e-6)
  # The bound holds z, and not what the step costs.
  moved, extras = step._replace(bound=1.0)(lambda z: z @ w, z)
  expected = [[dz[0], 1], [0.5 + dz[0], dz[1] - 1]]
  np.testing.assert_allclose(moved, expected, rtol=1e-6)
  np.testing.assert_allclose(extras["latent_shift"][0], dz @ dz, rtol=1e-6)


def test_the_longest_step():
  """It is size / (2 sqrt damping), where |g|^2 is the damping."""
  step = LatentStep(0.9, 5.0, 300.0, None)
  z = jnp.zeros((1, 1))
  far = [
    float(step(lambda z, g=g: g * z[:, 0], z)[0][0, 0])
    for g in (1.0, np.sqrt(5.0), 30.0)
  ]
  np.testing.assert_allclose(far[1], 0.9 / 2 / np.sqrt(5), rtol=1e-6)
  assert far[1] == max(far)


def test_only_bounded_latents_are_clipped():
  make = functools.partial(logan.latent_step, 0.9, 5.0, 300.0)
  assert make("normal") == (0.9, 5.0, 300.0, None)
  clipped: Any = make("uniform")
  draw = functools.partial(latents.uniform, z_dim=1000)
  largest = jnp.abs(draw(jax.random.key(0))).max()
  np.testing.assert_allclose(clipped.bound, largest, rtol=0.01)
  assert clipped.bound >= largest
  assert logan.latent_step(0.0, 5.0, 300.0, "normal") is None


class Scale(nn.Module):
  """z `[n, 1]` -> points `[n, 1]`, or points -> logits `[n]`: a factor."""

  factor: float
  squeeze: bool = False

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    del labels, train
    init = nn.initializers.constant(self.factor)
    x = x * self.param("a", init, (1, 1))
    return x[:, 0] if self.squeeze else x


V, W = 0.7, 1.2
SIZE, DAMPING, WEIGHT = 0.8, 0.6, 1.5


def scalars(**options) -> Any:
  """Returns a system of D(x) = v x and G(z) = w z, a state and points."""
  sgd = optimizers.get("sgd", learning_rate=1.0)
  system = GAN(
    generator=Scale(W),
    discriminator=Scale(V, squeeze=True),
    loss=losses.get("wasserstein"),
    g_opt=sgd,
    d_opt=sgd,
    z_dim=1,
    **options,
  )
  points = jnp.linspace(-1, 2, 8)[:, None]
  state = system.init(jax.random.key(0), data.Arrays(points))
  return system, state, points


def test_gradients_go_through_the_step():
  """Both players' updates against central differences in float64."""
  options: Any = dict(latent_damping=DAMPING, latent_weight=WEIGHT)
  options |= dict(latent_step=SIZE, simultaneous=True)
  system, state, points = scalars(**options)
  key = jax.random.key(1)
  step = jax.jit(system.train_step)
  new, metrics = step(state, data.Arrays(points[None]), key)
  z_key, *_ = jax.random.split(key, 5)
  z_keys = parallel.example_keys(z_key, 8)
  z = np.float64(jax.vmap(system.sample_one_z)(z_keys))[:, 0]

  def shift(v, w):
    return SIZE * v * w / (DAMPING + (v * w) ** 2)

  mean = np.float64(points).mean()

  def d_loss(v, w):
    fake = v * w * (z + shift(v, w))
    return fake.mean() - v * mean + WEIGHT * shift(v, w) ** 2

  def g_loss(v, w):
    return -np.mean(v * w * (z + shift(v, w))) + WEIGHT * shift(v, w) ** 2

  h = 1e-5
  d_grad = (d_loss(V + h, W) - d_loss(V - h, W)) / (2 * h)
  g_grad = (g_loss(V, W + h) - g_loss(V, W - h)) / (2 * h)
  v, w = new.discriminator.params["a"], new.generator.params["a"]
  np.testing.assert_allclose(V - v[0, 0], d_grad, rtol=1e-4)
  np.testing.assert_allclose(W - w[0, 0], g_grad, rtol=1e-4)
  np.testing.assert_allclose(metrics["latent_shift"], shift(V, W) ** 2, 1e-5)
  # The loss that is logged is without that cost.
  cost = WEIGHT * shift(V, W) ** 2
  np.testing.assert_allclose(metrics["g_loss"], g_loss(V, W) - cost, rtol=1e-4)


def test_top_k_in_an_update():
  """G follows its best two of eight; what it logs is of them, too."""
  system, state, points = scalars(top_k=0.25, simultaneous=True)
  key = jax.random.key(1)
  step = jax.jit(system.train_step)
  new, metrics = step(state, data.Arrays(points[None]), key)
  z_keys = parallel.example_keys(jax.random.split(key, 5)[0], 8)
  z = np.sort(jax.vmap(system.sample_one_z)(z_keys)[:, 0])
  moved = new.generator.params["a"][0, 0] - W
  np.testing.assert_allclose(moved, V * z[-2:].mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics["g_loss"], -V * W * z[-2:].mean(), 1e-5)
  # D is told of all of them.
  moved = new.discriminator.params["a"][0, 0] - V
  np.testing.assert_allclose(moved, points.mean() - W * z.mean(), rtol=1e-5)


def test_off_means_not_there():
  """The same program as without a word of either."""
  off: Any = dict(top_k=1.0, top_k_steps=7, latent_step=0.0, latent_weight=9.0)
  texts = []
  for options in ({}, off):
    system, state, points = scalars(**options)
    batch = data.Arrays(points[None])
    trace = jax.make_jaxpr(system.train_step)(state, batch, jax.random.key(0))
    texts.append(str(trace))
  assert texts[0] == texts[1]
  assert "sort" not in texts[0]


class Net(nn.Module):
  """Points `[n, 2]` or logits `[n]` by way of batch norm."""

  outputs: int

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    del labels
    x = norms.batch_norm(train)(nn.Dense(5)(x))
    x = nn.Dense(self.outputs)(jnp.tanh(x))
    return x[:, 0] if self.outputs == 1 else x


POINTS = np.random.RandomState(0).normal(size=(40, 2)).astype(np.float32)


@pytest.mark.slow
def test_devices_do_not_change_the_update():
  """Both at once, with batch norm and noise; SGD shows a wrong scale."""
  sgd = optimizers.get("sgd", learning_rate=0.1)
  how: Any = dict(top_k=0.4, top_k_steps=2, latent_step=0.9, latent_weight=3.0)
  how |= dict(latent_damping=0.5, instance_noise=0.1)
  system = GAN(
    generator=Net(2),
    discriminator=Net(1),
    loss=losses.get("non_saturating"),
    g_opt=sgd,
    d_opt=sgd,
    z_dim=3,
    **how,
  )
  states, rows = [], []
  for num_devices in 1, 4:
    devices = jax.devices()[:num_devices]
    arrays = data.Arrays(jnp.asarray(POINTS))
    first = jax.jit(system.init)(jax.random.key(0), arrays)
    state, arrays = program.replicate((first, arrays), devices)
    step = program.map_step(system.train_step, lambda x: x, devices)
    for i in range(3):
      indices = data.batch_indices(0, i * 8, 8, len(POINTS))
      indices = program.shard(indices.reshape(1, 8), num_devices)
      state, metrics = step(state, arrays, indices, jax.random.key(1), i)
    states.append(jax.device_get(program.local(state)))
    rows.append(jax.device_get(metrics))
    assert largest_difference(states[-1].generator, first.generator) > 1e-3
  assert rows[0]["latent_shift"] > 1e-2
  assert largest_difference(*states) < 1e-5
  assert largest_difference(*rows) < 1e-4


def test_each_is_one_flag_away():
  for flags in (dict(top_k=0.5), dict(latent_step=0.9)):
    config = configs.load("digits_dcgan:smoke")
    config.system.update(flags)
    config = configs.resolve(config)
    system = configs.build(config, (16, 16, 1), 10)
    state = runs.abstract_state(system, (16, 16, 1), 10)
    images = jax.ShapeDtypeStruct((1, 8, 16, 16, 1), jnp.float32)
    labels = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    batch = data.Arrays(images, labels, 10)
    _, row = jax.eval_shape(system.train_step, state, batch, jax.random.key(0))
    assert ("latent_shift" in row) == ("latent_step" in flags)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (dict(top_k=0.0), "top_k=0.0 must be above 0"),
    (dict(top_k=1.5), "top_k=1.5 must be above 0 and at most 1"),
    (dict(top_k=0.5, top_k_steps=-1), "top_k_steps=-1 0 or more"),
    (dict(latent_step=-0.1), "latent_step=-0.1 must be 0 or more"),
    (dict(latent_step=0.9, latent_damping=0.0), "latent_damping=0.0 above 0"),
    (dict(latent_step=0.9, latent_weight=-1.0), "latent_weight=-1.0 0 or"),
  ],
)
def test_mistakes_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    scalars(**options)
