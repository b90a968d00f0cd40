"""Numbers that change over training: of penalties, augmentation, average."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from trees import largest_difference, mix

from ganjax import data, errors, main, state
from ganjax.objectives import augment, penalties, schedules
from ganjax.runs import configs
from ganjax.runs.configs import schema
from ganjax.training.train import train

pytestmark = pytest.mark.usefixtures("without_figures")


def cosine(init_value, end_value, decay_steps=4.0) -> dict[str, Any]:
  return dict(
    name="cosine",
    init_value=init_value,
    end_value=end_value,
    decay_steps=decay_steps,
  )


def test_cosine_by_hand():
  """Its ends at 0 and T, their mean at T / 2, nothing after T."""
  for init, end in (0.05, 0.005), (0.0, 5e6):
    at = schedules.get_schedule(**cosine(init, end, decay_steps=39062.5))
    quarter = end + (init - end) * (1 + np.sqrt(0.5)) / 2
    for share, value in (
      (0, init),
      (0.25, quarter),
      (0.5, (init + end) / 2),
      (1, end),
      (2, end),
    ):
      step = jnp.float32(39062.5 * share)
      np.testing.assert_allclose(at(step), value, rtol=1e-5)
    assert at(jnp.int32(0)) == np.float32(init)


def test_half_life_by_hand():
  """R3GAN: .5^(batch / half-life), and a copy where that is 0."""
  constant = schedules.half_life_decay(1000.0, batch_size=500)
  np.testing.assert_allclose(constant(7), 0.5**0.5, rtol=1e-6)
  rising = schedules.half_life_decay(cosine(0.0, 1000.0), batch_size=500)
  assert rising(jnp.int32(0)) == 0.0
  np.testing.assert_allclose(rising(jnp.int32(2)), 0.5, rtol=1e-6)
  np.testing.assert_allclose(rising(jnp.int32(99)), 0.5**0.5, rtol=1e-6)
  live: Any = state.NetState({"w": jnp.float32(3.0)}, {}, None)
  ema = state.Averaged({"w": jnp.float32(1.0)}, {})
  for step, value in (0, 3.0), (2, 2.0):
    new = ema.update(live, rising, jnp.int32(step))
    np.testing.assert_allclose(new.params["w"], value, rtol=1e-6)
  # A number has its ramp, here 3 / 12, as it ever had.
  assert ema.update(live, 0.9, jnp.int32(2)).params["w"] == 2.5


def test_a_running_mean_by_hand():
  """From step 2 on all weights count equally; until then it is a copy."""
  decay = schedules.get_schedule(name="running_mean", start=2)
  ema: Any = state.Averaged({"w": jnp.float32(100.0)}, {})
  values = [7.0, -2.0, 3.0, 5.0, 13.0, -1.0]
  expected = [7.0, -2.0, 3.0, 4.0, 7.0, 5.0]
  for step, (value, mean) in enumerate(zip(values, expected, strict=True)):
    live: Any = state.NetState({"w": jnp.float32(value)}, {}, None)
    ema = ema.update(live, decay, jnp.int32(step))
    np.testing.assert_allclose(ema.params["w"], mean, rtol=1e-5)


def test_a_scheduled_penalty_is_another_one_at_each_step():
  """Of D(x) = 2 x, R1 is gamma / 2 * 4; `every` stays."""
  r1 = schedules.follow(
    lambda **hyper: penalties.get("r1", **hyper),
    gamma=cosine(1.0, 0.0),
    every=3,
  )
  x, unused = jnp.ones((2, 1)), (lambda z: z, lambda keys: keys)
  view: Any = penalties.View(
    lambda x: 2 * x[:, 0], *unused, {}, x, x, x, x, lambda tree: tree
  )
  for step, gamma in (0, 1.0), (2, 0.5), (9, 0.0):
    now = r1.at(step)
    np.testing.assert_allclose(now.discriminator(view, None)[0], 2 * gamma)
    assert now.every == 3
  # Without a schedule nothing is remade.
  assert schedules.follow(penalties.r1, gamma=1.0).at is None


def scheduled(make):
  """Returns `make` with a schedule for each of its numbers."""
  numbers = [
    k for k, v in schema.of(make, ()).items() if type(v.default) is float
  ]
  return schedules.follow(make, **{k: cosine(0.5, 0.1) for k in numbers})


X = jnp.ones((2, 8, 8, 3))
KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.mark.parametrize("name", penalties.PENALTIES)
def test_any_number_of_a_penalty_may_be_traced(name):
  penalty = scheduled(penalties.PENALTIES.find(name))
  weight = jnp.ones((3, 2))
  total = lambda x: jnp.square(x).sum((1, 2, 3))
  image = lambda z: jnp.broadcast_to(z[:, None, None], (2, 8, 8, 3))
  draw_z = jax.vmap(lambda key: jax.random.normal(key, (3,)))
  z, mean = jnp.ones((2, 3)), lambda tree: tree
  view = penalties.View(
    total, image, draw_z, {"w": weight}, X, image(z), z, KEYS, mean
  )

  def value(step):
    now = penalty.at(step)
    functions = now.discriminator, now.generator
    return [f(view, penalty.memory)[0] for f in functions if f]

  shapes = jax.eval_shape(value, jnp.int32(0))
  assert shapes and all(x.shape == () for x in shapes)


@pytest.mark.parametrize("name", ["pipe", "ada"])
def test_any_number_of_an_augmentation_may_be_traced(name):
  augmentation = scheduled(augment.AUGMENTATIONS.find(name))

  def value(step):
    now = augmentation.at(step)
    memory = now.update(augmentation.memory, 1.0, 2)
    return now.apply(X, KEYS, now.probability(memory))

  assert jax.eval_shape(value, jnp.int32(0)).shape == X.shape


SCHEDULED: dict[str, Any] = dict(
  penalties=dict(
    r1=dict(gamma=cosine(2.0, 0.5)), lecam=dict(weight=cosine(0.0, 1.0))
  ),
  augment=dict(name="pipe", p=cosine(0.0, 1.0), policy=("xflip",)),
  ema=dict(half_life=cosine(0.0, 32.0)),
)


def resolve(**changes):
  """A tiny pair on digits, with SGD: Adam hides a wrong scale."""
  config = configs.load("digits_mlp:smoke")
  net = dict(name="mlp", hidden=(4,))
  sgd = dict(name="sgd", learning_rate=0.1)
  judge = net | dict(init_range=0.5, dropout=0.0, input_dropout=0.0)
  config = config.to_dict() | dict(generator=net, discriminator=judge)
  config |= dict(g_opt=sgd, d_opt=sgd, evals={}, batch_size=8)
  config["checkpoint"] = dict(every=2)
  config["dataset"]["size"] = 8
  config |= changes
  return configs.resolve(ml_collections.ConfigDict(config))


def test_a_step_equals_that_of_constants():
  """At step 3, and not at step 1; the average moves by its half-life."""
  images = np.random.RandomState(0).rand(2, 8, 8, 8, 1).astype(np.float32)
  batch, key = data.Arrays(jnp.asarray(images[:1])), jax.random.key(1)
  system = configs.build(resolve(**SCHEDULED), (8, 8, 1), 0)
  arrays = data.Arrays(batch.images[0])
  start = jax.jit(system.init)(jax.random.key(0), arrays)
  step_fn = jax.jit(system.train_step)
  falling = (1 + np.cos(0.75 * np.pi)) / 2
  values: dict[str, Any] = dict(
    penalties=dict(
      r1=dict(gamma=0.5 + 1.5 * falling), lecam=dict(weight=1 - falling)
    ),
    augment=SCHEDULED["augment"] | dict(p=1 - falling),
    ema=dict(half_life=32 * (1 - falling)),
  )
  constant = configs.build(resolve(**values), (8, 8, 1), 0)
  at = lambda step: start.replace(step=jnp.int32(step))
  expected, metrics = jax.jit(constant.train_step)(at(3), batch, key)
  got, scheduled_metrics = step_fn(at(3), batch, key)
  assert largest_difference(got, expected) < 1e-6
  assert largest_difference(metrics, scheduled_metrics) < 1e-5
  early, early_metrics = step_fn(at(1), batch, key)
  for name in "penalty_r1", "penalty_lecam", "d_loss":
    assert abs(early_metrics[name] - metrics[name]) > 1e-4, name
  decay = 0.5 ** (8 / values["ema"]["half_life"])
  mixed = mix(decay, start.generator.params, got.generator.params)
  assert largest_difference(got.ema["generator"].params, mixed) < 1e-6
  first, _ = step_fn(at(0), batch, key)
  assert (
    largest_difference(first.ema["generator"].params, first.generator.params)
    == 0
  )
  assert (
    largest_difference(early.ema["generator"].params, early.generator.params)
    > 0
  )


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_them(tmp_path):
  numbers = dict(ema=SCHEDULED["ema"])
  numbers["penalties"] = dict(r1=SCHEDULED["penalties"]["r1"])

  def run_to(num_steps, folder):
    config = resolve(**numbers, num_steps=num_steps)
    one = jax.devices()[:1]
    return train(config, tmp_path / folder, one, report=False)

  whole, _ = run_to(4, "whole"), run_to(2, "halves")
  resumed = run_to(4, "halves")
  assert resumed.step == 4
  assert largest_difference(resumed.state, whole.state) == 0


def test_flags_reach_them():
  flags = dict.fromkeys(
    ("penalties.r1.gamma", "augment.p", "ema.half_life", "d_opt.b2"), 0.25
  )
  argv = ["main", "--config=cifar_r3gan:smoke"]
  argv += [f"--config.{k}.end_value={v}" for k, v in flags.items()]
  argv += ["--config.penalties.r1.gamma.decay_steps=9"]
  config, _ = main.parse(argv)
  for path in flags:
    spec: Any = config
    for key in path.split("."):
      spec = spec[key]
    assert spec.name == "cosine" and spec.end_value == 0.25, path
  assert config.penalties.r1.gamma.decay_steps == 9
  assert config.penalties.r2.gamma.decay_steps == 39062.5


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      dict(penalties=dict(r1=dict(gamma=dict(name="cosin")))),
      r"config.penalties.r1.gamma.name: .* did you mean 'cosine'",
    ),
    (
      dict(augment=dict(name="pipe", p=dict(name="cosine", init_value=0.0))),
      "config.augment.p.end_value is missing",
    ),
    (
      dict(ema=dict(half_life=cosine(0.0, 1.0, decay_steps=0))),
      "config.ema.half_life.decay_steps=0 is out of range",
    ),
    (
      dict(penalties=dict(r1=dict(every=cosine(1, 2)))),
      "config.penalties.r1.every=.* must be a whole number",
    ),
    (
      dict(loss=dict(name="hinge", d_weight=cosine(1.0, 2.0))),
      "config.loss.d_weight=.* must be a number",
    ),
    (
      dict(ema=dict(decay=0.9, half_life=1000)),
      "config.ema.decay and config.ema.half_life exclude each other",
    ),
    (dict(ema=dict(half_life=-1.0)), "config.ema.half_life=-1.0 is out of"),
  ],
)
def test_mistakes_are_named(changes, message):
  with pytest.raises(errors.UserError, match=message):
    resolve(**changes)
