"""Semi-supervised learning: its losses, and whose labels it looks at."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import largest_difference, mix

from ganjax import data, errors, nets
from ganjax.objectives import optimizers
from ganjax.runs import checkpoint
from ganjax.runs import run as runs
from ganjax.systems import adversarial, semi_supervised
from ganjax.systems.semi_supervised import SemiSupervised
from ganjax.training import program

pytestmark = pytest.mark.usefixtures("without_figures")

SHAPE = (8, 8, 1)
N, K = 40, 4
IMAGES = np.random.RandomState(0).rand(N, *SHAPE).astype(np.float32)
LABELS = np.arange(N, dtype=np.int32) % K
SMALL = {"dcgan": dict(width=4), "mlp": dict(hidden=(8,))}


def make(net="mlp", **options):
  get = functools.partial(
    nets.get,
    net,
    image_shape=SHAPE,
    num_classes=options.pop("num_classes", K),
    **SMALL[net],
  )
  sgd = optimizers.get("sgd", learning_rate=0.1)
  defaults: dict = dict(z_dim=4, num_labeled=8, num_features=5)
  return SemiSupervised(
    generator=get(role="generator"),
    encoder=options.pop("encoder", get(role="encoder")),
    g_opt=sgd,
    d_opt=sgd,
    **defaults | options,
  )


def arrays(labels: object = LABELS, num_classes=K):
  return data.Arrays(jnp.asarray(IMAGES), labels, num_classes)


def start(system, labels=LABELS, seed=0):
  """The state that `init` makes of data that its shuffling puts in order."""
  key = jax.random.key(seed)
  order = jax.random.permutation(jax.random.fold_in(key, 0), N)
  before = jnp.argsort(order)
  given = jax.tree.map(lambda x: jnp.asarray(x)[before], arrays(labels))
  return jax.jit(system.init)(key, given)


def batch(n=8, labels=LABELS):
  return data.Arrays(IMAGES[None, :n], labels[None, :n], K)


def perceptron(net, images):
  """The net of `make()`, in NumPy: logits `[n, K]`, features `[n, 5]`."""
  params = jax.device_get(net.params)
  encoder = params["encoder"]
  dense = lambda x, layer: x @ layer["kernel"] + layer["bias"]
  x = dense(np.asarray(images).reshape(len(images), -1), encoder["Dense_0"])
  x = dense(np.maximum(x, 0), encoder["output"])
  features = np.maximum(x, 0.2 * x)
  return dense(features, params["output"]), features


def test_the_supervised_loss_by_hand():
  logits = np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]]).astype(np.float32)
  loss = semi_supervised.supervised_loss(jnp.asarray(logits), jnp.int32([1, 0]))
  np.testing.assert_allclose(loss, (math.log(4) + math.log(3)) / 2, rtol=1e-6)
  # The class "fake" has no part in it: all logits may move together.
  logits = jnp.asarray(logits + 7)
  moved = semi_supervised.supervised_loss(logits, jnp.int32([1, 0]))
  np.testing.assert_allclose(moved, loss, rtol=1e-5)


def test_the_discriminators_loss_is_that_of_all_classes():
  """Of K + 1 classes with the logit 0 for "fake", written out in NumPy."""
  system = make()
  state, key = start(system), jax.random.key(3)
  seen = []

  def judge(system, state, net, images, labels, key, iterate=False):
    note = lambda shown: seen.append(np.asarray(shown))
    jax.debug.callback(note, images, ordered=True)
    return plain_judge(system, state, net, images, labels, key, iterate)

  plain_judge = SemiSupervised.judge
  real = data.Arrays(IMAGES[:8])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(SemiSupervised, "judge", judge)
    step = jax.jit(system.discriminator_step)
    metrics = jax.block_until_ready(step(state, real, key)[1])
  jax.effects_barrier()
  labeled, shown, fake = seen
  np.testing.assert_array_equal(shown, IMAGES[:8])
  places = [np.flatnonzero((IMAGES == x).all((1, 2, 3)))[0] for x in labeled]
  assert max(places) < 8 and len(set(places)) > 2

  def probabilities(images):
    logits, _ = perceptron(state.discriminator, images)
    odds = np.exp(np.pad(logits.astype(np.float64), ((0, 0), (0, 1))))
    return odds / odds.sum(1, keepdims=True)

  p = probabilities(labeled)[np.arange(8), LABELS[places]]
  supervised = -np.log(p / probabilities(labeled)[:, :K].sum(1)).mean()
  p_real = 1 - probabilities(shown)[:, K]
  p_fake = probabilities(fake)[:, K]
  unsupervised = -np.log(p_real).mean() - np.log(p_fake).mean()
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
  close(metrics["supervised_loss"], supervised)
  close(metrics["unsupervised_loss"], unsupervised)
  close(metrics["d_loss"], supervised + unsupervised)
  close(metrics["d_real"], p_real.mean())
  close(metrics["d_fake"], 1 - p_fake.mean())
  close(metrics["d_real_accuracy"], (p_real > 0.5).mean())
  close(metrics["d_fake_accuracy"], (p_fake > 0.5).mean())
  right = probabilities(labeled)[:, :K].argmax(1) == LABELS[places]
  close(metrics["labeled_accuracy"], right.mean())


@pytest.mark.parametrize("matching", semi_supervised.MATCHING)
def test_feature_matching_by_hand(matching):
  """G's loss and the gradient of its output's bias, in NumPy."""
  system = make(matching=matching, latent="normal")
  state, key = start(system), jax.random.key(5)
  real = data.Arrays(IMAGES[:8])
  new, metrics = jax.jit(system.generator_step)(state, real, key)
  keys = adversarial.StepKeys.split(key)
  z = np.asarray(system.sample_z(keys.z, 8), np.float64)
  g = jax.device_get(state.generator.params)
  hidden = np.maximum(z @ g["Dense_0"]["kernel"] + g["Dense_0"]["bias"], 0)

  def loss(bias):
    x = hidden @ g["output"]["kernel"] + bias
    fakes = perceptron(state.discriminator, 1 / (1 + np.exp(-x)))
    reals = perceptron(state.discriminator, IMAGES[:8])
    which = semi_supervised.MATCHING.index(matching)
    return np.square(reals[which].mean(0) - fakes[which].mean(0)).sum()

  bias = g["output"]["bias"].astype(np.float64)
  np.testing.assert_allclose(metrics["g_loss"], loss(bias), rtol=1e-4)
  grads = (bias - np.asarray(new.params["output"]["bias"])) / 0.1
  for i in (0, 27, 63):
    h = 1e-4 * np.eye(64)[i]
    slope = (loss(bias + h) - loss(bias - h)) / 2e-4
    np.testing.assert_allclose(grads[i], slope, rtol=2e-3, atol=2e-6)


def test_the_first_of_each_class_are_chosen():
  labels = jnp.int32([2, 2, 0, 2, 0, 1, 2, 1, 0, 1])
  choose = lambda num: semi_supervised.choose(labels, num).tolist()
  assert choose(3) == [2, 5, 0]
  assert choose(7) == [2, 5, 0, 4, 7, 1, 8]
  # Where a class has no more, others give.
  short = semi_supervised.choose(jnp.int32([0, 0, 0, 1]), 3)
  assert short.tolist() == [0, 3, 1]


def test_labels_belong_to_the_seed():
  system = make()
  states = [jax.jit(system.init)(jax.random.key(i), arrays()) for i in (0, 1)]
  chosen = [np.sort(s.memory["images"].ravel()) for s in states]
  assert np.any(chosen[0] != chosen[1])
  for state in states:
    assert np.bincount(state.memory["labels"]).tolist() == [8 // K] * K


def test_no_other_label_is_looked_at():
  """The first 8 labels are used; the others may be anything."""
  system = make()
  other = LABELS.copy()
  other[8:] = np.random.RandomState(1).permutation(other[8:])
  assert (other != LABELS).any()
  step = jax.jit(system.train_step)
  states = []
  for labels in (LABELS, other):
    state = start(system, labels)
    np.testing.assert_array_equal(state.memory["images"], IMAGES[:8])
    np.testing.assert_array_equal(state.memory["labels"], LABELS[:8])
    shown = data.Arrays(IMAGES[None, 8:16], labels[None, 8:16], K)
    states.append(step(state, shown, jax.random.key(0))[0])
  assert largest_difference(*states) == 0
  # But those that are used do matter.
  other = LABELS.copy()
  other[:8] = other[:8][::-1]
  state, _ = step(start(system, other), batch(), jax.random.key(0))
  same, _ = step(start(system), batch(), jax.random.key(0))
  assert largest_difference(state.discriminator, same.discriminator) > 0


def test_the_baseline_sees_labelled_images_alone():
  system = make(supervised_only=True, ema_decay=0.5)
  first, step = start(system), jax.jit(system.train_step)
  state, metrics = step(first, batch(), jax.random.key(0))
  shown = data.Arrays(IMAGES[None, 20:28], LABELS[None, 20:28], K)
  other, _ = step(first, shown, jax.random.key(0))
  assert largest_difference(state, other) == 0
  assert largest_difference(state.generator, first.generator) == 0
  assert largest_difference(state.discriminator, first.discriminator) > 1e-4
  assert metrics["d_loss"] == metrics["supervised_loss"]
  assert "g_loss" not in metrics and state.step == 1


@pytest.mark.slow
def test_devices_do_not_change_the_update():
  """Batch norm and noise included; SGD shows a wrong scale."""
  states = []
  for num_devices in 1, 4:
    devices = jax.devices()[:num_devices]
    system = make("dcgan", ema_decay=0.9, instance_noise=0.3)
    first = start(system)
    state, stored = program.replicate((first, arrays()), devices)
    step = program.map_step(system.train_step, lambda x: x, devices)
    for i in range(2):
      indices = data.batch_indices(0, i * 8, 8, N).reshape(1, 8)
      indices = program.shard(indices, num_devices)
      state, metrics = step(state, stored, indices, jax.random.key(1), i)
    assert np.isfinite(metrics["d_loss"]) and np.isfinite(metrics["g_loss"])
    states.append(jax.device_get(program.local(state)))
    for player in ("generator", "discriminator"):
      now, then = getattr(states[-1], player), getattr(first, player)
      assert largest_difference(now, then) > 1e-3
  assert largest_difference(*states) < 1e-5


def test_classes_and_scores_of_images():
  system = make(ema_decay=0.5)
  first = start(system)
  state, _ = jax.jit(system.train_step)(first, batch(), jax.random.key(0))
  average = state.ema["discriminator"]
  mixed = mix(0.1, first.discriminator.params, state.discriminator.params)
  assert largest_difference(average.params, mixed) < 1e-6
  for ema, net in ((True, average), (False, state.discriminator)):
    logits, _ = perceptron(net, IMAGES)
    got = system.class_logits(state, jnp.asarray(IMAGES), ema)
    if ema:
      np.testing.assert_array_equal(system.classify(state, IMAGES), got)
    np.testing.assert_allclose(got, logits, rtol=1e-4, atol=1e-5)
  odds = np.exp(logits).sum(1)  # The live network's.
  got = system.score(state, IMAGES)
  np.testing.assert_allclose(got, np.log(odds), rtol=1e-4, atol=1e-5)
  assert system.sample(state, jax.random.key(1), 3).shape == (3, *SHAPE)


@pytest.mark.slow
def test_a_run_can_be_resumed(tmp_path):
  """From what a checkpoint holds, averages and labelled images included."""
  system = make(ema_decay=0.9)
  step = jax.jit(system.train_step)
  key = jax.random.key(0)
  state, _ = step(start(system), batch(), key)
  like = runs.abstract_state(system, SHAPE, K)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, {})
    restored = checkpoints.restore(like, 1)
  assert largest_difference(restored, state) == 0
  after, _ = step(restored, batch(), key)
  unbroken, _ = step(state, batch(), key)
  assert largest_difference(after, unbroken) == 0 and after.step == 2


def test_mistakes_are_named():
  def fails(match):
    return pytest.raises(errors.UserError, match=match)

  with fails("a dataset with labels"):
    make(num_classes=0)
  with fails("both nets of as many classes"):
    make(encoder=nets.get("mlp", "encoder", SHAPE, num_classes=3))
  with fails("num_labeled of 4 or more"):
    make(num_labeled=3)
  with fails("num_features of 1 or more"):
    make(num_features=0)
  with fails("did you mean 'features'"):
    make(matching="feature")
  with fails("generator without labels"):
    generator = nets.get("biggan", "generator", (32, 32, 3), num_classes=K)
    encoder = nets.get("mlp", "encoder", (32, 32, 3), num_classes=K)
    sgd = optimizers.get("sgd", learning_rate=0.1)
    SemiSupervised(generator=generator, encoder=encoder, g_opt=sgd, d_opt=sgd)
  with fails("num_labeled=41 must be 40 or fewer"):
    start(make(num_labeled=41))
  with fails("for 4 classes, this dataset has labels of 0"):
    make().init(jax.random.key(0), arrays(None, 0))
  with fails("for 4 classes, this dataset has labels of 10"):
    make().init(jax.random.key(0), arrays(num_classes=10))
