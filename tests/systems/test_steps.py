"""One step by hand: D(x) = w x and G(z) = b on images of one pixel."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import data, errors
from ganjax.objectives import augment, losses, optimizers, penalties
from ganjax.systems import adversarial
from ganjax.systems.gan import GAN

W, B = 0.5, 0.25
KEY = jax.random.key(1)


class G(nn.Module):
  @nn.compact
  def __call__(self, z, labels=None, train=True):
    b = self.param("b", nn.initializers.constant(B), ())
    return jnp.full((len(z), 1, 1, 1), 1.0) * b


class D(nn.Module):
  @nn.compact
  def __call__(self, images, labels=None, train=True):
    w = self.param("w", nn.initializers.constant(W), ())
    return images[:, 0, 0, 0] * w


def make(loss="wasserstein", named=None, **options):
  """SGD with rate 1: the new value is the old minus the gradient."""
  loss = losses.get(loss) if isinstance(loss, str) else loss
  named = {k: penalties.get(k, **v) for k, v in (named or {}).items()}
  sgd = optimizers.get("sgd", learning_rate=1.0)
  return GAN(
    generator=G(),
    discriminator=D(),
    loss=loss,
    g_opt=sgd,
    d_opt=sgd,
    penalties=named,
    **options,
  )


def batches(*images):
  pixels = np.float32(images).reshape(len(images), -1, 1, 1, 1)
  return data.Arrays(jnp.asarray(pixels))


def begin(system):
  images = jnp.zeros((2, 1, 1, 1))
  return system.init(jax.random.key(0), data.Arrays(images))


def step(system, *images, state=None, **kw):
  """One step; returns w, b, the state and the metrics."""
  state = begin(system) if state is None else state
  assert system.batches_per_step == len(images)
  state, metrics = system.train_step(state, batches(*images), KEY, **kw)
  w = state.discriminator.params["w"]
  return float(w), float(state.generator.params["b"]), state, metrics


@pytest.mark.parametrize(
  ("k", "simultaneous", "w", "b"),
  [
    # w <- w + mean(x) - b, once for each of k batches; then b <- b + w.
    (1, False, 0.5 + 1 - 0.25, 0.25 + 1.25),
    (2, False, 0.5 + (1 - 0.25) + (3 - 0.25), 0.25 + 4.0),
    # The simultaneous generator still sees the old w.
    (1, True, 0.5 + 1 - 0.25, 0.25 + 0.5),
  ],
)
def test_algorithm_1(k, simultaneous, w, b):
  system = make(d_steps_per_g_step=k, simultaneous=simultaneous)
  got = step(system, *[[0, 2], [2, 4]][:k])
  assert got[:2] == (w, b)


@pytest.mark.parametrize("real", ["fresh", "same"])
def test_a_relativistic_generator_sees_reals(real):
  """Pairing least squares: D (w r - w b - 1)^2, G (w b - w r - 1)^2."""
  loss = losses.get("least_squares", relativism="pairing", d_weight=1e-6)
  system = make(loss, generator_real=real)
  images = [[0, 2], [4, 8]][: 1 + (real == "fresh")]
  _, b, _, metrics = step(system, *images)
  error = W * B - W * np.array(images[-1]) - 1
  np.testing.assert_allclose(b, B - 2 * (error * W).mean(), rtol=1e-4)
  np.testing.assert_allclose(metrics["g_loss"], (error**2).mean(), rtol=1e-4)


def test_other_generators_need_no_batch_of_their_own():
  assert make("hinge", generator_real="fresh").batches_per_step == 1
  pairing = losses.get("hinge", relativism="pairing")
  system = make(pairing, d_steps_per_g_step=2)
  assert system.batches_per_step == 3
  assert make(pairing, simultaneous=True).batches_per_step == 1


def test_penalties_add_up():
  """R1 and R2 are gamma/2 w^2 here, each with its own metric."""
  named = dict(r1=dict(gamma=0.2), r2=dict(gamma=0.4))
  w, _, _, metrics = step(make(named=named), [0, 2])
  np.testing.assert_allclose(w, W + 1 - B - 0.6 * W, rtol=1e-6)
  np.testing.assert_allclose(metrics["penalty_r1"], 0.1 * W**2, rtol=1e-6)
  np.testing.assert_allclose(metrics["penalty_r2"], 0.2 * W**2, rtol=1e-6)
  # The loss is logged without them.
  np.testing.assert_allclose(metrics["d_loss"], W * B - W * 1, rtol=1e-6)


def test_a_lazy_penalty_is_rare_and_as_strong():
  system = make(named=dict(r1=dict(gamma=0.1, every=3), r2=dict(every=0)))
  assert [system.skip(i) for i in range(4)] == [(), ("r1",), ("r1",), ()]
  w, b, state, metrics = step(system, [0, 2])
  np.testing.assert_allclose(w, W + 1 - B - 3 * 0.1 * W, rtol=1e-6)
  first = metrics["penalty_r1"]
  np.testing.assert_allclose(first, 0.05 * W**2, rtol=1e-6)
  rest, _, _, metrics = step(system, [0, 2], state=state, skip=("r1",))
  np.testing.assert_allclose(rest, w + 1 - b, rtol=1e-6)
  # While it rests, its last value stands in the log.
  assert metrics["penalty_r1"] == first
  assert "penalty_r2" not in metrics


def test_each_player_has_its_own_part_of_a_penalty():
  named = dict(orthogonal=dict(player="both"), path_length={})
  _, _, state, metrics = step(make(named=named), [0, 2])
  names = {k for k in metrics if k.startswith("penalty")}
  assert names == {
    "penalty_orthogonal_d",
    "penalty_orthogonal_g",
    "penalty_path_length",
  }
  # G does not depend on z: paths have no length, and that is remembered.
  assert state.memory == {"path_length": {"length": 0.0}}


def test_label_smoothing_is_one_sided():
  system = make("non_saturating", label_smoothing=0.2)
  w, *_ = step(system, [2, 2])
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  expected = (sigmoid(2 * W) - 0.8) * 2 + sigmoid(B * W) * B
  np.testing.assert_allclose(w, W - expected, rtol=1e-6)


DOUBLE = augment.AUGMENTATIONS["none"]()._replace(
  apply=lambda images, keys, p: 2 * images
)


def test_d_sees_both_augmented_and_penalties_start_before():
  """Twice as bright: w sees 2 x and 2 b; R1's gradient after x is 2 w."""
  named = dict(r1=dict(gamma=0.1))
  w, b, _, metrics = step(make(named=named, augment=DOUBLE), [0, 2])
  expected = W + 2 * 1 - 2 * B - 0.1 * 4 * W
  np.testing.assert_allclose(w, expected, rtol=1e-6)
  np.testing.assert_allclose(metrics["penalty_r1"], 0.05 * 4 * W**2)
  # G's gradient comes back through it, too.
  np.testing.assert_allclose(b, B + 2 * expected, rtol=1e-6)


def test_the_controller_follows_d():
  """D is right of every real here: p rises by the batch over 100 images."""
  ada = augment.AUGMENTATIONS["ada"](
    initial_p=0.5, adjust_images=100, interval=1, policy=("xflip",)
  )
  system = make("non_saturating", augment=ada)
  _, _, state, metrics = step(system, [2, 2])
  np.testing.assert_allclose(metrics["augment_p"], 0.52, rtol=1e-6)
  assert state.memory["augment"]["p"] == metrics["augment_p"]
  _, _, _, metrics = step(system, [-2, -2])
  np.testing.assert_allclose(metrics["augment_p"], 0.48, rtol=1e-6)


def test_instance_noise_on_all_that_d_sees():
  system = make(instance_noise=0.5, instance_noise_steps=10)
  state = begin(system)

  def logits(step, images):
    now = state.replace(step=jnp.int32(step))
    judged, _ = system.judge(now, state.discriminator, images, None, KEY)
    return judged.logits

  blank = jnp.zeros((4000, 1, 1, 1))
  for i, std in ((0, 0.5), (5, 0.25), (10, 0.0), (99, 0.0)):
    noise = logits(i, blank) / W
    np.testing.assert_allclose(noise.std(), std, rtol=0.05)
    np.testing.assert_allclose(noise.mean(), 0, atol=0.03)
  ones = logits(0, blank + 1) - logits(0, blank)
  np.testing.assert_allclose(ones, W, rtol=1e-5)
  assert adversarial.noise_schedule(0.5, 0)(99) == 0.5


def test_augmentations_are_for_images():
  blank = data.Arrays(jnp.zeros((2, 3)))
  system = make(augment=augment.AUGMENTATIONS["diffaugment"]())
  state = begin(system)
  with pytest.raises(errors.UserError, match=r"need images .*\[2, 3\]"):
    system.discriminator_step(state, blank, KEY)
