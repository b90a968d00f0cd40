"""BiGAN: the optimum on four points, the losses, and who moves when."""

import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import largest_difference

from ganjax import data, errors, nets
from ganjax.objectives import losses, optimizers
from ganjax.runs import configs
from ganjax.runs import run as runs
from ganjax.systems import bigan
from ganjax.systems.bigan import BiGAN
from ganjax.training import program, train

pytestmark = pytest.mark.usefixtures("without_figures")

SHAPE = (8, 8, 1)
IMAGES = np.random.RandomState(0).randint(0, 256, (40, *SHAPE), np.uint8)


class Table(nn.Module):
  """A generator or an encoder of one-hot vectors: any map is a matrix."""

  image_shape: tuple[int, ...] = (4,)
  outputs: int = 4

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    del labels, train
    return nn.Dense(self.outputs, use_bias=False, name="map")(x)


class JointTable(nn.Module):
  """A discriminator with a logit for each pair of points, 0 at first."""

  image_shape: tuple[int, ...] = (4,)

  @nn.compact
  def __call__(self, pairs, labels=None, train=True):
    del labels, train
    logits = self.param("logits", nn.initializers.zeros, (4, 4))
    x, z = pairs[:, :4], pairs[:, -4:]
    return jnp.einsum("ni,ij,nj->n", x, logits, z)


def to_network(arrays):
  return arrays.replace(images=arrays.images / jnp.float32(255))


def make(loss="non_saturating", judge="mlp", **options) -> Any:
  get = functools.partial(nets.get, image_shape=SHAPE)
  sgd = optimizers.get("sgd", learning_rate=0.1)
  small: Any = dict(hidden=(8,), init_range=0.5)
  small = dict(width=4) if judge == "dcgan" else small
  options = {"z_dim": 4, **options}
  return BiGAN(
    generator=get("mlp", "generator", hidden=(8,)),
    encoder=get("mlp", "encoder", hidden=(8,)),
    discriminator=get(judge, "discriminator", **small),
    loss=losses.get(loss),
    g_opt=sgd,
    d_opt=sgd,
    **options,
  )


def start(system):
  arrays = to_network(data.Arrays(jnp.asarray(IMAGES)))
  return jax.jit(system.init)(jax.random.key(0), arrays)


def batch(n=8):
  return to_network(data.Arrays(jnp.asarray(IMAGES[None, :n])))


def tables(**options) -> Any:
  """Returns a system of tables, and its state."""
  sgd = optimizers.get("sgd", learning_rate=0.3)
  system = BiGAN(
    generator=Table(),
    encoder=Table(),
    discriminator=JointTable(),
    loss=losses.get("non_saturating"),
    g_opt=sgd,
    d_opt=sgd,
    z_dim=4,
    **options,
  )
  points = data.Arrays(jnp.eye(4))
  return system, system.init(jax.random.key(0), points)


def with_maps(state, generator, encoder):
  """Returns the state with these matrices, row i the image of point i."""
  g = state.generator.replace(
    params={"map": {"kernel": jnp.asarray(generator)}}
  )
  e = state.nets["encoder"].replace(
    params={"map": {"kernel": jnp.asarray(encoder)}}
  )
  return state.replace_nets(generator=g, encoder=e)


def test_only_the_inverse_is_an_optimum(monkeypatch):
  """At D = 1/2 its gradient is half the difference of both joint tables.

  Where E differs from the inverse of G at m of 4 points, 2 m of the 16 cells
  differ by 1/4: the norm is sqrt(2 m) / 8, and 0 for the inverse alone.
  """
  eye = jnp.eye(4)
  monkeypatch.setattr(BiGAN, "sample_z", lambda *_: eye)  # Each z once.
  system, state = tables()
  step = jax.jit(system.train_step)
  g = np.array([2, 0, 3, 1])
  inverse = np.argsort(g)
  for e in itertools.permutations(range(4)):
    now = with_maps(state, np.eye(4)[g], np.eye(4)[list(e)])
    new, metrics = step(now, data.Arrays(eye[None]), jax.random.key(0))
    wrong = np.count_nonzero(inverse != e)
    expected = np.sqrt(2.0 * wrong) / 8
    np.testing.assert_allclose(metrics["d_grad_norm"], expected, atol=1e-6)
    np.testing.assert_allclose(metrics["d_loss"], 2 * np.log(2), rtol=1e-6)
    if not wrong:  # Nobody moves, and nothing is lost on the way.
      assert largest_difference(new.generator, now.generator) == 0
      assert largest_difference(new.nets["encoder"], now.nets["encoder"]) == 0
      np.testing.assert_allclose(system.reconstruct(new, eye), eye, atol=1e-6)
    else:
      assert largest_difference(new.nets["encoder"], now.nets["encoder"]) > 1e-3


def test_what_g_and_e_minimise_by_hand():
  real, fake = jnp.array([0.5, -1.0]), jnp.array([2.0, 0.0])
  softplus = lambda x: np.mean(np.log1p(np.exp(np.asarray(x))))
  expected: dict[str, Any] = dict(
    minimax=-softplus(fake) - softplus(-real),
    non_saturating=softplus(-fake) + softplus(real),
    hinge=-1.0 - 0.25,
    wasserstein=-1.0 - 0.25,
  )
  for name, value in expected.items():
    got = bigan.pair_loss(losses.get(name), real, fake)
    np.testing.assert_allclose(got, value, rtol=1e-6, err_msg=name)
  centred = losses.get("least_squares", fake_target=-1.0)
  squares = 0.5 * (1 + 1) + 0.5 * (1.5**2 + 0)
  got = bigan.pair_loss(centred, real, fake)
  np.testing.assert_allclose(got, squares, rtol=1e-6)
  # Relativistic: once, the pull on both already in it.
  paired = losses.get("non_saturating", relativism="pairing")
  got = bigan.pair_loss(paired, real, fake)
  np.testing.assert_allclose(got, softplus(real - fake), rtol=1e-6)


def test_latent_regression_inverts_a_fixed_generator():
  system, state = tables(freeze_generator=True)
  g = np.eye(4, dtype=np.float32) * [2, 1, 1, -1]
  g[2, 1] = 1  # So that it is no mere scaling.
  g = g.astype(np.float32)
  state = with_maps(state, g, np.zeros((4, 4), np.float32))
  points = data.Arrays(jnp.zeros((1, 64, 4)))
  step = jax.jit(system.train_step)
  first, metrics = step(state, points, jax.random.key(0))
  # At E = 0 the loss is the mean square of z: of unit variance.
  np.testing.assert_allclose(metrics["loss"], 1.0, atol=0.15)
  assert metrics.keys() == {"loss", "e_grad_norm", "reconstruction_error"}
  assert "discriminator" not in first.nets
  assert "score" not in system.abilities()
  for i in range(200):
    state, metrics = step(state, points, jax.random.key(i))
  assert metrics["loss"] < 1e-4
  learnt = state.nets["encoder"].params["map"]["kernel"]
  np.testing.assert_allclose(g @ learnt, np.eye(4), atol=0.02)
  assert np.array_equal(state.generator.params["map"]["kernel"], g)
  assert state.step == 200


@pytest.mark.parametrize("options", [{}, dict(freeze_generator=True)])
@pytest.mark.slow
def test_devices_do_not_change_the_update(options):
  """Noise and dropout included; SGD shows a wrong scale."""
  states, rows = [], []
  for num_devices in 1, 4:
    devices = jax.devices()[:num_devices]
    system = make(ema_decay=0.9, **options)
    first = start(system)
    state, arrays = program.replicate((first, data.Arrays(IMAGES)), devices)
    step = program.map_step(system.train_step, to_network, devices)
    for i in range(2):
      indices = data.batch_indices(0, i * 8, 8, len(IMAGES))
      indices = program.shard(indices.reshape(1, 8), num_devices)
      state, metrics = step(state, arrays, indices, jax.random.key(1), i)
    states.append(jax.device_get(program.local(state)))
    rows.append(jax.device_get(metrics))
    assert (
      largest_difference(states[-1].nets["encoder"], first.nets["encoder"])
      > 1e-3
    )
  assert largest_difference(*states) < 1e-5
  assert largest_difference(*rows) < 1e-4


def test_images_are_judged_beside_their_codes():
  system = make(ema_decay=0.5)
  state, _ = jax.jit(system.train_step)(
    start(system), batch(), jax.random.key(0)
  )
  images = batch().images[0]
  z = system.encode(state, images)
  net = state.discriminator
  pairs = jnp.concatenate([images.reshape(8, -1), z], 1)
  judge = system.networks["discriminator"]
  logits = judge.apply({"params": net.params}, pairs, train=False).logits
  np.testing.assert_allclose(system.score(state, images), logits, rtol=1e-5)
  rebuilt = system.reconstruct(state, images)
  np.testing.assert_array_equal(rebuilt, system.decode(state, z))
  live = state.replace(ema={})
  assert largest_difference(system.encode(live, images), z) > 0


def run(workdir, name, **changes) -> Any:
  config = configs.load(f"{name}:smoke")
  flat = {"evals": {}, "checkpoint.best": "", **changes}
  config.update_from_flattened_dict(flat)
  config.evals = {}
  return train.train(config, workdir, jax.devices()[:1])


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_one(tmp_path):
  whole = run(tmp_path / "a", "digits_bigan", num_steps=3)
  run(tmp_path / "b", "digits_bigan", num_steps=2)
  resumed = run(tmp_path / "b", "digits_bigan", num_steps=3)
  assert largest_difference(whole.state, resumed.state) == 0
  loaded = runs.load(tmp_path / "b")
  images = data.find("digits")("test", size=8).images[:3]
  assert loaded.encode(images).shape == (3, loaded.config.system.z_dim)
  assert loaded.reconstruct(images).dtype == np.uint8


def test_only_the_encoder_learns_for_a_generator_of_another_run(tmp_path):
  other = run(tmp_path / "gan", "digits_mlp").state.generator.params
  new = run(
    tmp_path / "e",
    "digits_bigan",
    **{
      "start_from": str(tmp_path / "gan"),
      "system.z_dim": 32,
      "system.freeze_generator": True,
    },
  )
  assert largest_difference(new.state.generator.params, other) == 0
  assert "loss" in new.history()[-1]


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="discriminator.name='mlp'"):
    start(make(judge="dcgan"))
  # Images alone it can judge.
  make(judge="dcgan", latent_regression=True)
  with pytest.raises(errors.UserError, match="fake_target=-1"):
    make(loss="least_squares")
  with pytest.raises(errors.UserError, match="unknown latent 'cauchy'"):
    make(latent="cauchy")
