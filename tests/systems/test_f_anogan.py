"""f-AnoGAN: what E minimises by hand, and that E alone moves for it."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import largest_difference

from ganjax import data, errors, nets
from ganjax.nets.judged import Judged
from ganjax.objectives import losses, optimizers, penalties
from ganjax.runs import configs
from ganjax.runs import run as runs
from ganjax.systems.f_anogan import FAnoGAN
from ganjax.systems.gan import GAN
from ganjax.training import program, train

SHAPE = (16, 16, 1)
IMAGES = np.random.RandomState(0).randint(0, 256, (40, *SHAPE), np.uint8)
# Four points, of which G, E and D's hidden layer are matrices.
X = np.array([[1, 2], [0, -1], [3, 0.5], [-1, 1]], np.float32)
G = np.array([[1.0, -0.5]], np.float32)
E = np.array([[0.5], [0.25]], np.float32)
H = np.array([[1, 0, 2], [0.5, -1, 1]], np.float32)


class Linear(nn.Module):
  """A generator of two numbers, or an encoder of one."""

  image_shape: tuple[int, ...] = (2,)
  outputs: int = 2

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    return nn.Dense(self.outputs, use_bias=False, name="map")(x)


class Judge(nn.Module):
  """A discriminator of three features, dropped at random in training."""

  image_shape: tuple[int, ...] = (2,)

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    x = nn.Dense(3, use_bias=False, name="hidden")(x)
    x = nn.Dropout(0.5, deterministic=not train)(x)
    return Judged(nn.Dense(1, name="head")(x)[:, 0], x)


def linear(rate=0.1, gan_rate=0.1, **options) -> Any:
  """Returns a system of the matrices above, and its state."""
  slow, sgd = (optimizers.get("sgd", learning_rate=r) for r in (gan_rate, rate))
  system = FAnoGAN(
    generator=Linear(),
    encoder=Linear(),
    discriminator=Judge(),
    loss=losses.get("non_saturating"),
    g_opt=slow,
    d_opt=slow,
    opt=sgd,
    z_dim=1,
    **options,
  )
  state = system.init(jax.random.key(0), data.Arrays(X))
  g, e = ({"map": {"kernel": jnp.asarray(k)}} for k in (G, E))
  d = {**state.discriminator.params, "hidden": {"kernel": jnp.asarray(H)}}
  return system, state.replace_nets(
    generator=state.generator.replace(params=g),
    discriminator=state.discriminator.replace(params=d),
    encoder=state.nets["encoder"].replace(params=e),
  )


def by_hand(kappa, g=G):
  """Returns A(x) `[4]`, its terms' means, and the gradient of E."""
  away = X - X @ E @ g
  pixels, seen = (away**2).mean(1), ((away @ H) ** 2).mean(1)
  slope = -away @ g.T - kappa * 2 / 3 * (away @ H) @ (g @ H).T
  return pixels + kappa * seen, pixels.mean(), seen.mean(), X.T @ slope / 4


def to_network(arrays):
  return arrays.replace(images=arrays.images / jnp.float32(255))


def make(kind=FAnoGAN, **options) -> Any:
  get = functools.partial(nets.get, image_shape=SHAPE)
  slow, sgd = (optimizers.get("sgd", learning_rate=r) for r in (0.02, 1.0))
  if kind is FAnoGAN:
    options = {
      "encoder": get("dcgan", "encoder", width=4),
      "opt": sgd,
      **options,
    }
  penalty = penalties.get("gradient_penalty", weight=1.0, target=1.0)
  return kind(
    generator=get("mlp", "generator", hidden=(8,), init_range=0.2),
    discriminator=get("mlp", "discriminator", hidden=(8,), init_range=0.1),
    loss=losses.get("wasserstein"),
    g_opt=slow,
    d_opt=slow,
    penalties={"gradient_penalty": penalty},
    z_dim=4,
    d_steps_per_g_step=2,
    ema_decay=0.9,
    **options,
  )


def start(system):
  arrays = to_network(data.Arrays(jnp.asarray(IMAGES)))
  return jax.jit(system.init)(jax.random.key(0), arrays)


@pytest.mark.parametrize("kappa", [0.0, 1.0, 0.3])
def test_what_e_minimises_by_hand(kappa):
  system, state = linear(kappa=kappa)
  update = jax.jit(system.encoder_step)
  new, metrics = update(state, data.Arrays(X), jax.random.key(0))
  scores, pixels, seen, grad = by_hand(kappa)
  np.testing.assert_allclose(system.score(state, X), -scores, rtol=1e-5)
  expected = dict(
    e_loss=scores.mean(),
    reconstruction_error=pixels,
    feature_error=seen,
    e_grad_norm=np.sqrt((grad**2).sum()),
  )
  assert metrics.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
  learnt = new.nets["encoder"].params["map"]["kernel"]
  np.testing.assert_allclose(learnt, E - 0.1 * grad, rtol=1e-5)
  np.testing.assert_allclose(system.encode(state, X), X @ E, rtol=1e-6)
  rebuilt = system.reconstruct(state, X)
  np.testing.assert_allclose(rebuilt, X @ E @ G, rtol=1e-6)
  # Nobody else moves.
  rest = new.replace_nets(encoder=state.nets["encoder"])
  jax.tree.map(np.testing.assert_array_equal, rest, state)


def test_e_follows_the_generator_that_samples_are_drawn_from():
  system, state = linear(ema_decay=0.5)
  twice = {"map": {"kernel": 2 * jnp.asarray(G)}}
  average = state.ema["generator"].replace(params=twice)
  ema = {**state.ema, "generator": average}
  state = state.replace(ema=ema, step=jnp.int32(100))
  update = jax.jit(system.encoder_step)
  new, metrics = update(state, data.Arrays(X), jax.random.key(0))
  scores, *_, grad = by_hand(1.0, 2 * G)
  np.testing.assert_allclose(metrics["e_loss"], scores.mean(), rtol=1e-5)
  # The average of E: half way from where it started, to where E went.
  before = state.ema["encoder"].params["map"]["kernel"]
  expected = 0.5 * before + 0.5 * (E - 0.1 * grad)
  averaged = new.ema["encoder"].params["map"]["kernel"]
  np.testing.assert_allclose(averaged, expected, rtol=1e-5)
  np.testing.assert_allclose(system.encode(new, X), X @ averaged, rtol=1e-5)


def test_e_inverts_a_generator_that_rests():
  system, state = linear(rate=0.05, gan_rate=0.0)
  images = jnp.asarray([[1.0], [-2.0], [0.5]]) @ G
  step = jax.jit(system.train_step)
  for i in range(300):
    state, metrics = step(state, data.Arrays(images[None]), jax.random.key(i))
  assert metrics["e_loss"] < 1e-6
  np.testing.assert_array_equal(state.generator.params["map"]["kernel"], G)
  far = images + jnp.broadcast_to(jnp.array([0.5, 1.0]), images.shape)
  assert system.score(state, images).min() > -1e-5
  assert system.score(state, far).max() < -0.5


@pytest.fixture(scope="module")
def trained():
  """A small system, its first state, and what one step makes of it."""
  system = make()
  first = start(system)
  batch = to_network(
    data.Arrays(jnp.asarray(IMAGES[:16].reshape(2, 8, *SHAPE)))
  )
  after = jax.jit(system.train_step)(first, batch, jax.random.key(1))
  return system, first, batch, after


def test_the_gan_does_not_know_of_e(trained):
  system, first, batch, (new, metrics) = trained
  plain = make(kind=GAN)

  def without_encoder(state):
    nets = {k: v for k, v in state.nets.items() if k != "encoder"}
    ema = {k: v for k, v in state.ema.items() if k != "encoder"}
    return state.replace(nets=nets, ema=ema)

  state = without_encoder(first)
  theirs, rows = jax.jit(plain.train_step)(state, batch, jax.random.key(1))
  assert largest_difference(without_encoder(new), theirs) < 1e-6
  assert {"e_loss", "e_grad_norm"} <= metrics.keys() - rows.keys()
  assert largest_difference(rows, {k: metrics[k] for k in rows}) < 1e-5
  assert (
    largest_difference(new.nets["encoder"].params, first.nets["encoder"].params)
    > 1e-3
  )
  assert new.step == 1 and system.batches_per_step == 2


def test_updates_one_by_one_are_the_step(trained):
  system, state, batch, (new, _) = trained
  updates = system.updates()
  assert [update.batch for update in updates] == [0, 1, 1, 1]
  for i, (update, place) in enumerate(updates):
    real = jax.tree.map(lambda x, place=place: x[place], batch)
    key = jax.random.fold_in(jax.random.key(1), i)
    state, _ = jax.jit(update)(state, real, key)
  assert largest_difference(state, new) < 1e-6


@pytest.mark.slow
def test_devices_do_not_change_the_update():
  """Noise, dropout and batch norm included; SGD shows a wrong scale."""
  states, rows = [], []
  for num_devices in 1, 4:
    devices = jax.devices()[:num_devices]
    system = make()
    first = start(system)
    state, arrays = program.replicate((first, data.Arrays(IMAGES)), devices)
    step = program.map_step(system.train_step, to_network, devices)
    for i in range(2):
      indices = data.batch_indices(0, i * 16, 16, len(IMAGES)).reshape(2, 8)
      indices = program.shard(indices, num_devices)
      state, metrics = step(state, arrays, indices, jax.random.key(1), i)
    states.append(jax.device_get(program.local(state)))
    moved = [x.nets["encoder"].params for x in (states[-1], first)]
    assert largest_difference(*moved) > 1e-3
    rows.append(jax.device_get(metrics))
  assert largest_difference(*states) < 1e-5
  assert largest_difference(*rows) < 1e-4


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_one(tmp_path):
  def run(name, num_steps):
    config = configs.load("digits_f_anogan:smoke")
    config.num_steps = num_steps
    config.evals = {}
    return train.train(config, tmp_path / name, jax.devices()[:1])

  whole = run("a", 3)
  run("b", 2)
  resumed = run("b", 3)
  assert largest_difference(whole.state, resumed.state) == 0
  loaded = runs.load(tmp_path / "b")
  images = data.find("digits")("test", size=8).images[:3]
  assert loaded.encode(images).shape == (3, loaded.config.system.z_dim)
  assert loaded.reconstruct(images).dtype == np.uint8
  assert (loaded.score(images) < 0).all()


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="kappa=-1.0 must be 0 or more"):
    linear(kappa=-1.0)
