"""InfoGAN: its latents, its losses by hand, and whom they move."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import difference, largest_difference, scaled

from ganjax import data, errors, nets, parallel
from ganjax.nets import norms
from ganjax.nets.judged import Judged
from ganjax.objectives import latents, losses, optimizers
from ganjax.runs import configs, report
from ganjax.runs import run as runs
from ganjax.systems import infogan
from ganjax.systems.gan import GAN
from ganjax.training import program, train

SIZES = 4, 3, 2  # Of noise, category and codes.
POINTS = np.random.RandomState(0).normal(size=(40, 2)).astype(np.float32)


class Net(nn.Module):
  """Points `[n, 2]` or logits `[n]`, with batch norm if that is wanted."""

  outputs: int
  batch_norm: bool = False

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    del labels
    x = nn.Dense(5)(x)
    if self.batch_norm:
      x = norms.batch_norm(train)(x)
    features = jnp.tanh(x)
    x = nn.Dense(self.outputs)(features)
    return Judged(x[:, 0], features) if self.outputs == 1 else x


def make(
  batch_norm=False, rate=1.0, optimizer="sgd", kind=infogan.InfoGAN, **options
) -> Any:
  if kind is infogan.InfoGAN:
    options = {"z_dim": 9, "num_categories": 3, "num_codes": 2, **options}
  rule = optimizers.get(optimizer, learning_rate=rate)
  return kind(
    generator=Net(2, batch_norm),
    discriminator=Net(1, batch_norm),
    loss=losses.get("non_saturating"),
    g_opt=rule,
    d_opt=rule,
    **options,
  )


class Silent(infogan.InfoGAN):
  """An InfoGAN whose Q says nothing: the plain game from the same latents."""

  def more_terms(self, *_):
    return {}


def start(system):
  return jax.jit(system.init)(jax.random.key(0), data.Arrays(POINTS))


# Latents.


def test_latents_are_noise_a_category_and_codes():
  system = make(latent="uniform")
  z = np.asarray(system.latents(jax.random.key(0), 2000))
  noise, category, codes = np.split(z, np.cumsum(SIZES)[:2], axis=1)
  assert np.abs(noise).max() <= np.sqrt(3) and noise.std() > 0.98
  assert (category.sum(1) == 1).all() and set(category.ravel()) == {0, 1}
  np.testing.assert_allclose(category.mean(0), 1 / 3, atol=0.04)
  assert -1 <= codes.min() < -0.99 and 0.99 < codes.max() <= 1
  # No part tells of another.
  correlation = np.corrcoef(np.delete(z, SIZES[0], axis=1).T)
  off = correlation - np.eye(8)
  off[4, 5] = off[5, 4] = 0  # Those of one category do.
  assert np.abs(off).max() < 0.08


def test_truncation_is_for_the_noise():
  z = np.asarray(make().latents(jax.random.key(0), 500, 0.5))
  assert 0.45 < np.abs(z[:, :4]).max() <= 0.5
  assert np.abs(z[:, 7:]).max() > 0.95


def test_traversals_change_one_thing_each():
  z = make().latents(jax.random.key(3), 1)[0]
  rows = make().traverse(z)
  assert list(rows) == ["category", "code 1", "code 2"]
  np.testing.assert_array_equal(rows["category"][:, 4:7], np.eye(3))
  values = np.linspace(-2, 2, 10)
  for i, name in ((7, "code 1"), (8, "code 2")):
    np.testing.assert_allclose(rows[name][:, i], values, rtol=1e-6)
  for name, own in (("category", [4, 5, 6]), ("code 1", [7]), ("code 2", [8])):
    rest = np.delete(np.asarray(rows[name]), own, axis=1)
    expected = np.tile(np.delete(np.asarray(z), own), (len(rest), 1))
    np.testing.assert_array_equal(rest, expected)
  assert list(make(num_codes=0).traverse(z)) == ["category"]


# Losses.


def test_losses_by_hand():
  logits = jnp.log(jnp.array([[1.0, 3.0], [4.0, 1.0]]))
  category = jnp.array([[0.0, 1.0], [0.0, 1.0]])
  expected = -(np.log(3 / 4) + np.log(1 / 5)) / 2
  got = infogan.category_loss(logits, category)
  np.testing.assert_allclose(got, expected, rtol=1e-6)
  means = jnp.array([[0.0, 1.0], [0.5, 0.5]])
  codes = jnp.array([[1.0, 1.0], [0.5, -0.5]])
  got, grad = jax.value_and_grad(infogan.code_loss)(means, codes)
  # Per example: two of log sqrt(2 pi), and half a squared distance.
  np.testing.assert_allclose(got, np.log(2 * np.pi) + 0.5, rtol=1e-6)
  np.testing.assert_allclose(grad, (means - codes) / 2, rtol=1e-6)


def recognise(params, seen, z):
  """Q by hand: two dense layers on features, the first one leaky."""
  q = params["recognition"]
  x = seen @ q["Dense_0"]["kernel"] + q["Dense_0"]["bias"][None]
  x = jnp.where(x > 0, x, 0.1 * x)
  x = x @ q["Dense_1"]["kernel"] + q["Dense_1"]["bias"][None]
  picked = jnp.sum(z[:, 4:7] * x[:, :3], axis=1)
  entropy = jax.nn.logsumexp(x[:, :3], axis=1) - picked
  error = jnp.square(x[:, 3:] - z[:, 7:]).sum(1)
  return jnp.mean(entropy + error / 2 + jnp.log(2 * jnp.pi))


@pytest.fixture(scope="module")
def steps() -> Any:
  """The first state, and those after a step without and with Q's losses."""
  first = start(make())
  batch, key = data.Arrays(POINTS[None, :8]), jax.random.key(1)
  after = []
  for weight in (0.0, 0.7):
    step = jax.jit(make(weight=weight).train_step)
    after.append(step(first, batch, key))
  return first, *after


def gradients(first, state, player: str, at: int):
  """Returns the gradient of Q's loss in D's update (0) or in G's (1)."""
  key = jax.random.fold_in(jax.random.key(1), at)
  z_keys = parallel.example_keys(jax.random.split(key, 5)[0], 8)
  z = jax.jit(jax.vmap(make().sample_one_z))(z_keys)
  d, g = state.discriminator.params, first.generator.params

  def q_loss(params):
    judge, maker = (params, g) if player == "discriminator" else (d, params)
    fake: Any = Net(2).apply({"params": maker}, z)
    hidden = jnp.tanh(
      fake @ judge["Dense_0"]["kernel"] + judge["Dense_0"]["bias"][None]
    )
    return recognise(judge, hidden, z)

  return jax.jit(jax.grad(q_loss))(d if player == "discriminator" else g)


def test_q_moves_d_and_itself_by_its_gradient(steps):
  first, (plain, _), (informed, _) = steps
  gradient = gradients(first, first, "discriminator", 0)
  for part in ("recognition", "Dense_0"):
    moved = difference(
      plain.discriminator.params[part], informed.discriminator.params[part]
    )
    expected = scaled(0.7, gradient[part])
    assert largest_difference(moved, expected) < 1e-6
    assert largest_difference(expected, scaled(0, moved)) > 1e-3
  # The layer that makes the logit comes after the features.
  head = [x.discriminator.params["Dense_1"] for x in (plain, informed)]
  assert largest_difference(*head) == 0


def test_q_moves_g_by_its_gradient(steps):
  """G's update comes after D's, so the game alone has to be known, too."""
  first, _, (informed, _) = steps
  batch, key = data.Arrays(POINTS[:8]), jax.random.key(1)
  state = first.replace_nets(discriminator=informed.discriminator)
  silent = make(kind=Silent, z_dim=9, num_categories=3, num_codes=2)
  g_update = jax.jit(silent.generator_step)
  alone, _ = g_update(state, batch, jax.random.fold_in(key, 1))
  gradient = gradients(first, informed, "generator", 1)
  moved = difference(alone.generator.params, informed.generator.params)
  expected = scaled(0.7, gradient)
  assert largest_difference(moved, expected) < 1e-6
  assert largest_difference(moved, scaled(0, moved)) > 1e-3


def test_without_weight_it_is_the_plain_gan(steps, monkeypatch):
  """Bit for bit, from the same key and the same latents."""
  first, (got, metrics), _ = steps
  # A plain GAN, whose z are drawn as InfoGAN's are.
  monkeypatch.setitem(
    latents.LATENTS,
    "informed",
    lambda key, z_dim, truncation=None: make().sample_one_z(key, truncation),
  )
  plain = make(kind=GAN, z_dim=9, latent="informed")
  state = start(plain)
  batch = data.Arrays(POINTS[None, :8])
  for moment in (first, got):
    params = dict(moment.discriminator.params)
    params.pop("recognition")
    assert largest_difference(params, state.discriminator.params) == 0
    generators = moment.generator.params, state.generator.params
    assert largest_difference(*generators) == 0
    state, _ = jax.jit(plain.train_step)(state, batch, jax.random.key(1))
  # Q still tells what it would guess.
  assert metrics.keys() > {"category_loss", "category_accuracy", "code_error"}


def test_what_is_logged():
  z = jnp.array([[0, 0, 0, 0, 1, 0, 0, 0.5, 1], [0, 0, 0, 0, 0, 1, 0, -1, 0.0]])
  wrong = jnp.zeros((2, 5)).at[:, 1].set(9.0)
  seen = jnp.ones((2, 4))
  new = infogan.Recognition(5).init(jax.random.key(0), seen)
  q = jax.tree.map(jnp.zeros_like, new["params"])
  q["Dense_1"]["bias"] = wrong[0]
  on_fake = Judged(jnp.zeros(2), seen)
  on_real = Judged(jnp.zeros(2), 3 * seen)
  q_of = {"recognition": q}
  found = make(weight=0.5).more_terms(q_of, on_real, on_fake, z, None)
  np.testing.assert_allclose(found["category_accuracy"][0], 0.5)
  mean = np.square([0.5, 1, -1, 0]).mean()
  np.testing.assert_allclose(found["code_error"][0], mean, rtol=1e-6)
  weights = {name: weight for name, (_, weight) in found.items()}
  assert weights == {
    "category_loss": 0.5,
    "category_accuracy": 0.0,
    "code_loss": 0.5,
    "code_error": 0.0,
  }
  q["Dense_1"] = jax.tree.map(lambda x: x[..., :3], q["Dense_1"])
  without = make(weight=0.5, num_codes=0)
  only = without.more_terms(q_of, on_real, on_fake, z, None)
  assert only.keys() == {"category_loss", "category_accuracy"}


# The system as a whole.


@pytest.mark.slow
def test_devices_do_not_change_the_update():
  system = make(True, 0.1, instance_noise=0.1, ema_decay=0.9)
  states, rows = [], []
  for num_devices in 1, 4:
    devices = jax.devices()[:num_devices]
    first = start(system)
    given = first, data.Arrays(jnp.asarray(POINTS))
    state, arrays = program.replicate(given, devices)
    step = program.map_step(system.train_step, lambda x: x, devices)
    for i in range(3):
      indices = data.batch_indices(0, i * 8, 8, len(POINTS))
      indices = program.shard(indices.reshape(1, 8), num_devices)
      state, metrics = step(state, arrays, indices, jax.random.key(1), i)
    states.append(jax.device_get(program.local(state)))
    rows.append(jax.device_get(metrics))
    moved = states[-1].discriminator.params, first.discriminator.params
    q = [params["recognition"] for params in moved]
    assert largest_difference(*q) > 1e-3
  assert largest_difference(*states) < 1e-5
  assert largest_difference(*rows) < 1e-4


def run(workdir, **changes) -> Any:
  config = configs.load("digits_infogan:smoke")
  config.update_from_flattened_dict({"checkpoint.best": "", **changes})
  config.evals = {}
  return train.train(config, workdir, jax.devices()[:1])


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_one(tmp_path, monkeypatch):
  monkeypatch.setattr(report, "show", lambda *_, **__: None)
  whole = run(tmp_path / "a", num_steps=3)
  run(tmp_path / "b", num_steps=2)
  resumed = run(tmp_path / "b", num_steps=3)
  assert largest_difference(whole.state, resumed.state) == 0
  loaded = runs.load(tmp_path / "b")
  z = loaded.latents(2)
  codes = loaded.sampler.system.traverse(z[0])["code 1"]
  assert loaded.decode(codes).shape == (10, 8, 8, 1)


@pytest.mark.parametrize("changes", [{}, dict(penalties=dict(r1={}))])
def test_it_is_one_flag_away(changes):
  config = configs.load("digits_dcgan:smoke")
  config.update(changes)
  config = configs.resolve(config, {"system": "infogan"})
  assert config.system.z_dim == 64 and config.system.num_categories == 10
  system = configs.build(config, (16, 16, 1), 10)
  state = runs.abstract_state(system, (16, 16, 1), 10)
  images = jax.ShapeDtypeStruct((1, 8, 16, 16, 1), jnp.float32)
  labels = jax.ShapeDtypeStruct((1, 8), jnp.int32)
  batch = data.Arrays(images, labels, 10)
  _, row = jax.eval_shape(system.train_step, state, batch, jax.random.key(0))
  assert ("penalty_r1" in row) == bool(changes) and "code_error" in row


def test_the_features_are_those_of_fakes():
  """Q guesses of fakes alone, whatever D makes of reals."""
  system = make()
  params = start(system).discriminator.params
  z = system.latents(jax.random.key(0), 4)
  of_fakes = Judged(jnp.zeros(4), jnp.ones((4, 5)))
  guesses = [
    system.more_terms(params, Judged(jnp.zeros(4), seen), of_fakes, z, None)
    for seen in (jnp.zeros((4, 5)), 7 * jnp.ones((4, 5)))
  ]
  assert largest_difference(*guesses) == 0


def test_mistakes_are_named():
  for sizes in (dict(z_dim=5), dict(num_categories=1), dict(num_codes=-1)):
    with pytest.raises(errors.UserError, match="z_dim above their sum"):
      make(**sizes)
  get = functools.partial(nets.get, "dcgan", image_shape=(8, 8, 1), width=2)
  sgd, loss = optimizers.get("sgd", learning_rate=1.0), losses.get("hinge")
  system = infogan.InfoGAN(
    generator=get(role="generator"),
    discriminator=get(role="discriminator", pack=2),
    loss=loss,
    g_opt=sgd,
    d_opt=sgd,
  )
  images = data.Arrays(jnp.zeros((4, 8, 8, 1)))
  state = jax.eval_shape(system.init, jax.random.key(0), images)
  batch = data.Arrays(jnp.zeros((1, 4, 8, 8, 1)))
  with pytest.raises(errors.UserError, match="discriminator.pack=1"):
    jax.eval_shape(system.train_step, state, batch, jax.random.key(0))
