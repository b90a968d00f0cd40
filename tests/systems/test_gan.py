"""The gan system: who moves when, by how much, on how many devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import largest_difference, mix

from ganjax import data, errors, nets
from ganjax.objectives import augment, latents, losses, optimizers, penalties
from ganjax.systems.gan import GAN
from ganjax.training import program

SHAPE = (16, 16, 1)
IMAGES = np.random.RandomState(0).randint(0, 256, (40, *SHAPE), np.uint8)
SMALL = {"dcgan": dict(width=4), "mlp": dict(hidden=(8, 8))}
SMALL["spectral"] = SMALL["dcgan"]


def to_network(arrays):
  return arrays.replace(images=arrays.images / jnp.float32(255))


def make(net="mlp", loss=None, **options):
  judge = dict(norm="spectral") if net == "spectral" else {}
  get = functools.partial(
    nets.get,
    net.replace("spectral", "dcgan"),
    image_shape=SHAPE,
    **SMALL[net],
  )
  sgd = optimizers.get("sgd", learning_rate=0.1)
  return GAN(
    generator=get(role="generator"),
    discriminator=get(role="discriminator", **judge),
    loss=loss or losses.get("non_saturating"),
    g_opt=sgd,
    d_opt=sgd,
    z_dim=4,
    **options,
  )


def start(system):
  arrays = to_network(data.Arrays(jnp.asarray(IMAGES)))
  return jax.jit(system.init)(jax.random.key(0), arrays)


def batch(k=1, n=8, at=0):
  images = IMAGES[at : at + k * n].reshape(k, n, *SHAPE)
  return to_network(data.Arrays(jnp.asarray(images)))


# Everything that speaks across devices or draws noise, at once.
EVERYTHING = dict(
  loss=losses.get("non_saturating", relativism="average"),
  augment=augment.AUGMENTATIONS["ada"](
    initial_p=0.5, interval=1, policy=("xflip", "xint")
  ),
  instance_noise=0.1,
  penalties={
    name: penalties.get(name, **hyper)
    for name, hyper in dict(
      gradient_penalty=dict(weight=0.1),
      dragan=dict(weight=0.1),
      lecam={},
      path_length=dict(weight=0.1),
      mode_seeking=dict(weight=0.01),
    ).items()
  },
)


@pytest.mark.parametrize(
  ("net", "num_d_steps", "options"),
  [
    ("mlp", 1, dict(simultaneous=True)),
    pytest.param("dcgan", 2, {}, marks=pytest.mark.slow),
    pytest.param("spectral", 1, EVERYTHING, marks=pytest.mark.slow),
  ],
)
def test_devices_do_not_change_the_update(net, num_d_steps, options):
  """Batch norm, dropout and noise included; SGD shows a wrong scale."""
  states = []
  for num_devices in 1, 2, 4:
    devices = jax.devices()[:num_devices]
    system = make(
      net,
      ema_decay=0.9,
      d_steps_per_g_step=num_d_steps,
      **options,
    )
    k = system.batches_per_step
    arrays = data.Arrays(IMAGES)
    first = start(system)
    state, arrays = program.replicate((first, arrays), devices)
    step = program.map_step(system.train_step, to_network, devices)
    for i in range(3):
      indices = data.batch_indices(0, i * 8 * k, 8 * k, len(IMAGES))
      indices = program.shard(indices.reshape(k, 8), num_devices)
      state, metrics = step(state, arrays, indices, jax.random.key(1), i)
    assert np.isfinite(metrics["d_loss"])
    states.append(jax.device_get(program.local(state)))
    assert largest_difference(states[-1], first) > 1e-3
  assert largest_difference(states[0], states[1]) < 1e-5
  assert largest_difference(states[0], states[2]) < 1e-5


def test_one_mapped_device_equals_plain_jit():
  system = make("dcgan")
  step = program.map_step(system.train_step, to_network, jax.devices()[:1])
  indices = np.arange(8, dtype=np.int32)[None, None]
  got, _ = step(
    start(system), data.Arrays(IMAGES), indices, jax.random.key(1), 5
  )
  key = jax.random.fold_in(jax.random.key(1), 5)
  expected, _ = jax.jit(system.train_step)(start(system), batch(), key)
  assert largest_difference(jax.device_get(got), expected) < 1e-6


def test_each_step_moves_its_own_player_only():
  system = make("dcgan", ema_decay=0.5)
  state, key = start(system), jax.random.key(0)
  real = jax.tree.map(lambda x: x[0], batch())
  after_d, _ = jax.jit(system.discriminator_step)(state, real, key)
  after_g, _ = jax.jit(system.generator_step)(state, real, key)
  generator = after_g.generator
  assert largest_difference(after_d.discriminator, state.discriminator) > 0
  assert largest_difference(after_d.generator, state.generator) == 0
  assert largest_difference(generator, state.generator) > 0
  assert largest_difference(after_g.discriminator, state.discriminator) == 0
  new, _ = jax.jit(system.train_step)(state, batch(), key)
  assert new.step == 1
  # Batch statistics belong to their player, too.
  assert largest_difference(new.generator.stats, generator.stats) > 0


def test_fresh_noise_for_each_update(monkeypatch):
  """D and G of one iteration see different z, and so do its two D steps."""
  seen = []

  def watched(key, z_dim, truncation=None):
    jax.debug.callback(
      lambda x: seen.append(tuple(x.tolist())), jax.random.key_data(key)
    )
    return latents.normal(key, z_dim, truncation)

  monkeypatch.setitem(latents.LATENTS, "watched", watched)
  system = make("mlp", d_steps_per_g_step=2, latent="watched")
  state = start(system)
  jax.block_until_ready(state)
  jax.effects_barrier()
  seen.clear()
  step = jax.jit(system.train_step)
  state, _ = step(state, batch(2, 4), jax.random.key(0))
  jax.block_until_ready(state)
  jax.effects_barrier()
  assert len(set(seen)) == len(seen) == 3 * 4


def test_simultaneous_players_share_fakes_and_masks():
  """The fake term of D's loss and G's loss come from the same logits."""
  loss = losses.get("wasserstein")
  # D's loss is f - r and G's -f: with r's share removed they are opposite.
  fake_only = loss._replace(discriminator=lambda real, fake: fake.mean())
  system = make("mlp", loss=fake_only, simultaneous=True)
  step = jax.jit(system.train_step)
  _, metrics = step(start(system), batch(), jax.random.key(3))
  assert metrics["d_loss"] == -metrics["g_loss"] != 0
  step = jax.jit(make("mlp", loss=fake_only).train_step)
  _, metrics = step(start(system), batch(), jax.random.key(3))
  assert metrics["d_loss"] != -metrics["g_loss"]


def test_ema_averages_parameters_and_statistics():
  system = make("dcgan", ema_decay=0.5)
  old = start(system)
  new, _ = jax.jit(system.train_step)(old, batch(), jax.random.key(0))
  # Step 0: decay min(.5, 1 / 10), so the average is .1 old + .9 new.
  for name in "params", "stats":
    mixed = mix(0.1, getattr(old.generator, name), getattr(new.generator, name))
    assert largest_difference(getattr(new.ema["generator"], name), mixed) < 1e-6
  draw = functools.partial(system.sample, key=jax.random.key(1), n=3)
  draw, own = jax.jit(draw), jax.jit(functools.partial(draw, ema=False))
  assert largest_difference(draw(new), own(new)) > 0
  live = new.replace(ema={"generator": new.generator})
  assert largest_difference(draw(live), own(new)) == 0


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="d_steps_per_g_step must be 1"):
    make(simultaneous=True, d_steps_per_g_step=2)
  with pytest.raises(errors.UserError, match="unknown latent 'cauchy'"):
    make(latent="cauchy")
  with pytest.raises(errors.UserError, match="did you mean 'fresh'"):
    make(generator_real="fersh")
  pairing = losses.get("hinge", relativism="pairing")
  with pytest.raises(errors.UserError, match="label_smoothing"):
    make(loss=pairing, label_smoothing=0.1)


def test_the_step_compiles_once():
  """What comes out of a step goes in again without a second compilation."""
  system = make("mlp", ema_decay=0.9)
  devices = jax.devices()[:1]
  state, arrays = program.replicate(
    (start(system), data.Arrays(IMAGES)), devices
  )
  step = program.map_step(system.train_step, to_network, devices)
  indices = np.arange(8, dtype=np.int32)[None, None]
  state, _ = step(state, arrays, indices, jax.random.key(1), 0)
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: "compile" in event and compiled.append(event)
  )
  step(state, arrays, indices, jax.random.key(1), 1)
  jax.monitoring.clear_event_listeners()
  assert not compiled
