"""The autoencoder system: what it learns, says and draws."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from trees import largest_difference, mix

import ganjax
from ganjax import data, errors, nets
from ganjax.data import digits
from ganjax.objectives import optimizers
from ganjax.runs import configs
from ganjax.systems import autoencoder
from ganjax.training import program
from ganjax.training.train import train

pytestmark = pytest.mark.usefixtures("without_figures")

SHAPE = (8, 8, 1)
IMAGES = digits.load("train", size=8).images[:40]
UNIT = IMAGES / np.float32(255)
LINEAR = dict(hidden=(), activation="linear")


def to_network(arrays):
  return arrays.replace(images=arrays.images / jnp.float32(255))


def make(net="mlp", shape=SHAPE, opt=None, **changes) -> Any:
  small = dict(width=4) if net == "dcgan" else dict(hidden=(16,))
  if net == "linear":
    net, small = "mlp", LINEAR
  output = changes.pop("output", "linear")
  options: Any = dict(z_dim=4) | changes
  get = functools.partial(nets.get, net, image_shape=shape, **small)
  return autoencoder.Autoencoder(
    encoder=get(role="encoder"),
    decoder=get(role="decoder", output=output),
    opt=opt or optimizers.get("sgd", learning_rate=0.1),
    **options,
  )


def batch_of(images):
  return data.Arrays(jnp.asarray(images, jnp.float32)[None])


def start(system, images=UNIT):
  arrays = data.Arrays(jnp.asarray(images, jnp.float32))
  return jax.jit(system.init)(jax.random.key(0), arrays)


def many_steps(system, state, images, num_steps, batch_size=0):
  """Trains in one program, on batches in turn; returns the state."""
  arrays = jnp.asarray(images, jnp.float32)
  rng = np.random.RandomState(0)
  order = np.tile(np.arange(len(arrays)), (num_steps, 1))
  if batch_size:
    order = rng.randint(0, len(arrays), (num_steps, batch_size))

  def body(state, xs):
    batch = data.Arrays(arrays[xs[0]][None])
    return system.train_step(state, batch, jax.random.key(xs[1]))

  seeds = np.arange(num_steps)
  return jax.jit(lambda s: jax.lax.scan(body, s, (order, seeds)))(state)[0]


def one_dimensional(reconstruction, x):
  """Returns every number of an update of a code and an image of one pixel."""
  system = make("linear", shape=(1,), z_dim=1, reconstruction=reconstruction)
  # The training set says that pixels are from 0 to 1.
  state = start(system, np.array([[0.0], [1.0]]))
  set_to = lambda kernel, bias: {
    "output": {
      "kernel": jnp.float32([[kernel]]),
      "bias": jnp.float32([bias]),
    }
  }
  state = state.replace_nets(
    encoder=state.nets["encoder"].replace(params=set_to(2.0, 0.5)),
    decoder=state.nets["decoder"].replace(params=set_to(-0.5, 0.1)),
  )
  state, metrics = jax.jit(system.train_step)(
    state, batch_of(x), jax.random.key(0)
  )
  found = [
    float(p["output"][k].squeeze())
    for p in (state.nets["encoder"].params, state.nets["decoder"].params)
    for k in ("kernel", "bias")
  ]
  return found, metrics, state


def by_hand(slope, x, code):
  """Returns the parameters after SGD at .1, from the loss's slope [n]."""
  grads = [-0.5 * slope * x, -0.5 * slope, slope * code, slope]
  before = [2.0, 0.5, -0.5, 0.1]
  return [p - 0.1 * g.mean() for p, g in zip(before, grads, strict=True)]


def test_the_squared_error_by_hand():
  x = np.array([0.25, 1.0])
  code = 2 * x + 0.5
  error = -0.5 * code + 0.1 - x
  found, metrics, state = one_dimensional("mse", x[:, None])
  np.testing.assert_allclose(found, by_hand(2 * error, x, code), rtol=1e-5)
  loss = np.square(error).mean()
  np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
  np.testing.assert_allclose(
    metrics["train_psnr"], -10 * np.log10(loss), rtol=1e-5
  )
  # The first batch's codes are all that is known of codes.
  mean, square = state.memory["moments"]
  np.testing.assert_allclose(mean, [code.mean()], rtol=1e-5)
  np.testing.assert_allclose(square, [np.square(code).mean()], rtol=1e-5)


def test_the_cross_entropy_by_hand():
  x = np.array([0.25, 1.0])
  code = 2 * x + 0.5
  p = 1 / (1 + np.exp(-(-0.5 * code + 0.1)))
  found, metrics, _ = one_dimensional("binary_cross_entropy", x[:, None])
  np.testing.assert_allclose(found, by_hand(p - x, x, code), rtol=1e-5)
  loss = -(x * np.log(p) + (1 - x) * np.log(1 - p)).mean()
  np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
  psnr = -10 * np.log10(np.square(p - x).mean())
  np.testing.assert_allclose(metrics["train_psnr"], psnr, rtol=1e-5)


def test_cross_entropy_takes_any_range_for_that_from_0_to_1():
  """[-1, 1] is [0, 1] moved: the same update, and images come back moved."""
  x = UNIT[:8]
  found = []
  for scale, shift in (1, 0), (2, -1):
    system = make("mlp", reconstruction="binary_cross_entropy")
    state = start(system, scale * x + shift)
    # The nets see no difference: the first layer undoes it.
    first = state.nets["encoder"].params["Dense_0"]
    bias = first["bias"] - shift / scale * first["kernel"].sum(0)
    new = {"kernel": first["kernel"] / scale, "bias": bias}
    params = {**state.nets["encoder"].params, "Dense_0": new}
    state = state.replace_nets(
      encoder=state.nets["encoder"].replace(params=params)
    )
    images = batch_of(scale * x + shift)
    state, metrics = jax.jit(system.train_step)(
      state, images, jax.random.key(0)
    )
    rebuilt = jax.jit(system.decode)(state, jnp.zeros((1, 4)))
    found.append(
      (metrics, state.nets["decoder"].params, (rebuilt - shift) / scale)
    )
  assert largest_difference(*found) < 1e-4


def test_a_linear_autoencoder_finds_the_principal_components():
  """Baldi & Hornik 1989: its only minimum is the PCA's error."""
  rng = np.random.RandomState(0)
  x = rng.normal(size=(64, 5)) * [2.0, 1.5, 1.0, 0.6, 0.3] + [1, 0, 0, 2, 0]
  x = x @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
  values = np.linalg.svd(x - x.mean(0), compute_uv=False)
  least = np.square(values[2:]).sum() / x.size
  adam = optimizers.get("adam", learning_rate=0.02)
  system = make("linear", shape=(5,), z_dim=2, opt=adam)
  state = many_steps(system, start(system, x), x, 800)
  error = -np.mean(jax.jit(system.score)(state, jnp.float32(x)))
  assert least - 1e-5 < error < 1.001 * least


@pytest.mark.slow
def test_devices_do_not_change_the_update():
  """Batch norm and damage included; SGD shows a wrong scale."""
  found = []
  for num_devices in 1, 2:
    devices = jax.devices()[:num_devices]
    system = make(
      "dcgan",
      reconstruction="binary_cross_entropy",
      corruption=0.2,
      masking=0.3,
      ema_decay=0.9,
    )
    first = start(system)
    state, arrays = program.replicate((first, data.Arrays(IMAGES)), devices)
    step = program.map_step(system.train_step, to_network, devices)
    for i in range(2):
      indices = data.batch_indices(0, i * 8, 8, len(IMAGES))[None]
      indices = program.shard(indices, num_devices)
      state, metrics = step(state, arrays, indices, jax.random.key(1), i)
    state = jax.device_get(program.local(state))
    found.append((state, jax.device_get(metrics)))
    assert largest_difference(state, first) > 1e-3
  assert largest_difference(*found) < 1e-5


def test_damage_is_what_it_says():
  """Noise of that deviation; that share of pixels, all channels, lowest."""
  key = jax.random.key(0)

  def damage(shape, **options):
    function = functools.partial(make(**options).damage, low=-1.0, key=key)
    return np.asarray(jax.jit(function)(jnp.full(shape, 0.5)))

  noise = damage((50, 16, 16, 3), corruption=0.2) - 0.5
  assert abs(noise.std() - 0.2) < 0.002 and abs(noise.mean()) < 0.002
  hidden = damage((50, 16, 16, 3), masking=0.3)
  assert set(np.unique(hidden)) == {-1.0, 0.5}
  assert abs((hidden == -1).mean() - 0.3) < 0.02
  assert (hidden == hidden[..., :1].repeat(3, -1)).all()
  # Each example has damage of its own, and points lose their coordinates.
  assert (hidden[0] != hidden[1]).any()
  points = damage((500, 2), masking=0.3)
  assert (points[:, 0] != points[:, 1]).any()


def test_the_loss_is_that_of_the_whole_image():
  """A denoising autoencoder is judged by what it was not shown."""
  images = batch_of(UNIT[:8])
  system = make(masking=0.9)
  state, key = start(system), jax.random.key(0)
  zero = jax.tree.map(jnp.zeros_like, state.nets["decoder"].params)
  state = state.replace_nets(decoder=state.nets["decoder"].replace(params=zero))
  _, metrics = jax.jit(system.train_step)(state, images, key)
  expected = np.square(images.images).mean()
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("reconstruction", autoencoder.RECONSTRUCTIONS)
def test_codes_are_standardised(reconstruction):
  """The training batch's z have moments 0 and 1; decode inverts encode."""
  still = optimizers.get("sgd", learning_rate=1e-30)
  images = jnp.asarray(UNIT[:16])
  system = make(opt=still, reconstruction=reconstruction, ema_decay=0.9)
  state, key = start(system), jax.random.key(0)
  for _ in range(2):
    state, _ = jax.jit(system.train_step)(state, batch_of(images), key)
  encoder, decoder = (system.networks[n] for n in ("encoder", "decoder"))

  @jax.jit
  def look(state):
    z, drawn_z = system.encode(state, images), system.latents(key, 70, 0.5)
    params = {"params": state.nets["encoder"].params}
    code: Any = encoder.apply(params, images, train=False)
    return dict(
      z=z,
      rebuilt=system.reconstruct(state, images),
      decoded=system.decode(state, z),
      # By the networks themselves, without the detour over z.
      plain=decoder.apply(
        {"params": state.nets["decoder"].params}, code, train=False
      ),
      score=system.score(state, images),
      drawn_z=drawn_z,
      drawn=system.sample(state, key, 70, truncation=0.5),
      drawn_decoded=system.decode(state, drawn_z),
    )

  seen = jax.device_get(look(state))
  np.testing.assert_allclose(seen["z"].mean(0), np.zeros(4), atol=1e-3)
  np.testing.assert_allclose(seen["z"].std(0), np.ones(4), atol=1e-3)
  np.testing.assert_allclose(seen["decoded"], seen["rebuilt"], atol=1e-5)
  plain = seen["plain"]
  if reconstruction == "binary_cross_entropy":
    plain = 1 / (1 + np.exp(-plain))
  np.testing.assert_allclose(seen["rebuilt"], plain, atol=1e-4)
  error = np.square(plain - images).mean((1, 2, 3))
  np.testing.assert_allclose(seen["score"], -error, atol=1e-4)
  np.testing.assert_allclose(seen["drawn"], seen["drawn_decoded"], atol=1e-6)
  assert 0.48 < np.abs(seen["drawn_z"]).max() <= 0.5
  assert system.settle(state, key, 8, None, True, None, 1.0) is state


def test_moments_follow_the_codes():
  """A mean over all batches, then over about the last hundred."""
  still = optimizers.get("sgd", learning_rate=1e-30)
  system = make(opt=still, z_dim=3)
  state, key = start(system), jax.random.key(0)
  steps = [batch_of(UNIT[i : i + 8]) for i in (0, 8, 16)]
  step = jax.jit(system.train_step)
  for batch in steps:
    state, _ = step(state, batch, key)
  z = jax.jit(system.encode)(state, jnp.asarray(UNIT[:24]))
  np.testing.assert_allclose(z.mean(0), np.zeros(3), atol=1e-4)
  np.testing.assert_allclose(z.std(0), np.ones(3), atol=1e-4)
  late = state.replace(step=jnp.int32(5000))
  late, _ = step(late, steps[0], key)
  once, _ = step(start(system), steps[0], key)
  for new, old, batch in zip(
    *(s.memory["moments"] for s in (late, state, once)), strict=True
  ):
    np.testing.assert_allclose(new, 0.99 * old + 0.01 * batch, rtol=1e-4)


def test_the_average_is_drawn_from():
  system = make("dcgan", shape=(8, 8, 1), ema_decay=0.5)
  state, key = start(system), jax.random.key(0)
  images = jnp.asarray(UNIT[:8])
  new, _ = jax.jit(system.train_step)(state, batch_of(images), key)
  for name in "encoder", "decoder":
    # Step 0: decay min(.5, 1 / 10), of parameters and statistics alike.
    for part in "params", "stats":
      before, after = (getattr(s.nets[name], part) for s in (state, new))
      mixed = mix(0.1, before, after)
      found = getattr(new.ema[name], part)
      assert largest_difference(found, mixed, default=0) < 1e-6
  live = new.replace(ema=new.nets)

  @jax.jit
  def look(state):
    """Returns what is of the average, and then what is not."""
    of = functools.partial(system.sample, state, key, 8)
    average = of(), system.reconstruct(state, images)
    average = *average, system.encode(state, images)
    # By the statistics of the samples themselves, if asked for.
    return average, of(ema=False), of(ema=False, batch=True)

  (ours, plain, batch), (theirs, _, _), (none, _, _) = (
    look(s) for s in (new, live, new.replace(ema={}))
  )
  for a, b, c in zip(ours, theirs, none, strict=True):
    assert largest_difference(a, b) > 1e-6 and not largest_difference(b, c)
  assert not largest_difference(plain, theirs[0])
  assert largest_difference(plain, batch) > 1e-6


def test_degenerate_data_stays_finite():
  """A constant training set, codes without variance, a perfect image."""
  for reconstruction in autoencoder.RECONSTRUCTIONS:
    system = make("linear", reconstruction=reconstruction)
    black = np.zeros((4, *SHAPE), np.float32)

    @jax.jit
    def look(state, system=system, black=black):
      key = jax.random.key(0)
      state, metrics = system.train_step(state, batch_of(black), key)
      images = system.sample(state, key, 4)
      return metrics, images, system.encode(state, black)

    seen = jax.tree.leaves(jax.device_get(look(start(system, black))))
    assert all(np.isfinite(x).all() for x in seen)


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="did you mean 'mse'"):
    make(reconstruction="mes")
  with pytest.raises(errors.UserError, match="output='linear', not 'tanh'"):
    make(reconstruction="binary_cross_entropy", output="tanh")
  with pytest.raises(errors.UserError, match=r"masking=1 must .* below 1$"):
    make(masking=1)
  with pytest.raises(errors.UserError, match="corruption=-1 must"):
    make(corruption=-1)
  with pytest.raises(errors.UserError, match="corruption=nan"):
    make(corruption=float("nan"))


def test_a_digit_never_seen_comes_back_worst():
  """Trained without sixes, it knows sixes by their errors."""
  seen, held_out = digits.load("train", size=8), digits.load("test", size=8)
  images = seen.images[seen.labels != 6] / np.float32(255)
  adam = optimizers.get("adam", learning_rate=3e-3)
  system = make(opt=adam, z_dim=8)
  state = many_steps(system, start(system), images, 400, batch_size=32)
  scores = jax.jit(system.score)(state, jnp.float32(held_out.images / 255))
  area = sklearn_metrics.roc_auc_score(held_out.labels == 6, -scores)
  assert area > 0.85  # The principal components' is .97.


@pytest.mark.slow
def test_a_run_is_resumed_and_codes_images(tmp_path):
  """Two steps and two more are four, bit for bit; then through `Run`."""

  def run_to(num_steps, folder):
    config = configs.load("digits_autoencoder:smoke")
    config.evals, config.checkpoint.best = {}, ""
    config.update(num_steps=num_steps, log_every=1)
    config.samples.num = 1
    config.system.update(corruption=0.1, masking=0.1)
    config.dataset.size = 8
    config.checkpoint.update(best="", every=1)
    one = jax.devices()[:1]
    return train(config, tmp_path / folder, one, report=False)

  whole = run_to(4, "whole")
  run_to(2, "halves")
  resumed = run_to(4, "halves")
  assert resumed.step == 4 and not largest_difference(
    jax.device_get(resumed.state), jax.device_get(whole.state)
  )
  assert {"loss", "train_psnr"} < whole.history()[-1].keys()
  run = ganjax.load(tmp_path / "halves")
  images = IMAGES[:5]
  z, rebuilt = run.encode(images), run.reconstruct(images)
  assert z.shape == (5, run.config.system.z_dim)
  assert rebuilt.shape == images.shape and rebuilt.dtype == np.uint8
  np.testing.assert_allclose(run.decode(z), rebuilt, atol=1)
  np.testing.assert_array_equal(run.sample(5), run.decode(run.latents(5)))
  # Scores are those of what was stored, before it is rounded again.
  error = np.square(images / 255.0 - rebuilt / 255.0).mean((1, 2, 3))
  np.testing.assert_allclose(run.score(images), -error, atol=1e-3)
