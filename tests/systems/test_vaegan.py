"""VAE/GAN: the terms by hand, who follows which gradient, and its runs."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import largest_difference, mix

from ganjax import data, errors, nets
from ganjax import state as states
from ganjax.nets import layers, norms
from ganjax.nets.judged import Judged
from ganjax.objectives import losses, optimizers
from ganjax.runs import configs
from ganjax.runs import run as runs
from ganjax.systems import vaegan
from ganjax.training import program, train

SHAPE = (8, 8, 1)
IMAGES = np.random.RandomState(0).randint(0, 256, (24, *SHAPE), np.uint8)
# Of the system on numbers: images of two pixels, z of one number.
X = np.array([[1.0, 0.5], [-0.3, 2.0], [0.4, -1.2]], np.float32)
NOISE = np.array([[0.3], [-1.1], [0.7]], np.float32)
PRIOR = np.array([[-0.6], [0.2], [1.5]], np.float32)
E = np.array([[0.5, -0.2], [0.1, 0.3]]), np.array([0.2, -0.4])
G = np.array([[0.8, -0.7]]), np.array([0.1, 0.6])
HIDDEN = np.array([[0.9, -0.5], [0.4, 1.1]]), np.array([-0.3, 0.2])
HEAD = np.array([[0.7], [-1.3]]), np.array([0.25])


class Judge(nn.Module):
  """A linear discriminator: two features, a logit of them."""

  @nn.compact
  def __call__(self, images, labels=None, train=True):
    """Maps `[n, 2]` to logits `[n]`."""
    del labels, train
    hidden = nn.Dense(2, name="hidden")(images)
    return Judged(nn.Dense(1, name="head")(hidden)[:, 0], hidden)


def to_network(arrays):
  return arrays.replace(images=arrays.images / jnp.float32(255))


class Small(nn.Module):
  """Any of the networks: dense, batch norm, dropout, dense."""

  shape: tuple[int, ...] = ()
  outputs: int = 0
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, labels=None, train=True):
    """Maps `[n, ...]` to `[n, outputs]` if there are some, or `[n, *shape]`."""
    del labels
    x = nn.Dense(6)(x.reshape(len(x), -1))
    x = jnp.tanh(norms.batch_norm(train)(x))
    x = layers.Dropout(self.dropout)(x, train)
    shape = (self.outputs,) if self.outputs else self.shape
    output = nn.Dense(math.prod(shape))(x).reshape(len(x), *shape)
    return output if shape else Judged(output, x)


def make(judge: Any = None, linear=False, **options) -> Any:
  """Returns a system of `Small` networks, or of linear ones on two pixels."""
  players: Any = [Small(), Small(SHAPE)]
  if linear:
    get = functools.partial(nets.get, "mlp", image_shape=(2,), hidden=())
    players = [get("encoder"), get("decoder", output="linear")]
  judge = judge or Small(dropout=0.5)
  loss = losses.get(**options.pop("loss", dict(name="non_saturating")))
  sgd = optimizers.get("sgd", learning_rate=options.pop("rate", 0.1))
  encoder, decoder = players
  return vaegan.VAEGAN(
    encoder=encoder,
    decoder=decoder,
    discriminator=judge,
    loss=loss,
    g_opt=sgd,
    d_opt=sgd,
    **{"z_dim": 2, **options},
  )


def start(system, images: Any = IMAGES) -> Any:
  arrays = to_network(data.Arrays(jnp.asarray(images)))
  return jax.jit(system.init)(jax.random.key(0), arrays)


def batch(n=8):
  return to_network(data.Arrays(jnp.asarray(IMAGES[None, :n])))


def layer(weights):
  kernel, bias = (jnp.asarray(x, jnp.float32) for x in weights)
  return dict(kernel=kernel, bias=bias)


def moved(linear_layer, inputs, slope):
  """Returns a layer after SGD at 1, of its inputs and the loss's slopes."""
  pairs = zip(inputs, slope, strict=True)
  grads = sum(x.T @ s for x, s in pairs), sum(s.sum(0) for s in slope)
  return layer([p - g for p, g in zip(linear_layer, grads, strict=True)])


@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_every_number_of_a_step_by_hand(gamma, monkeypatch):
  """E has no adversarial gradient, D none of the similarity, Dec both."""
  draws = iter([NOISE, PRIOR])
  monkeypatch.setattr(
    vaegan.VAEGAN, "_normal", lambda *_: jnp.asarray(next(draws))
  )
  system = make(Judge(), linear=True, z_dim=1, gamma=gamma, rate=1.0)
  state = start(system, X)
  state = state.replace_nets(
    encoder=state.nets["encoder"].replace(params=dict(output=layer(E))),
    decoder=state.nets["decoder"].replace(params=dict(output=layer(G))),
    discriminator=state.discriminator.replace(
      params=dict(hidden=layer(HIDDEN), head=layer(HEAD))
    ),
  )
  new, metrics = jax.jit(system.train_step)(
    state, data.Arrays(jnp.asarray(X)[None]), jax.random.key(0)
  )
  run = lambda linear_layer, x: x @ linear_layer[0] + linear_layer[1]
  mean, log_var = np.split(run(E, X), 2, axis=1)
  z = mean + np.exp(log_var / 2) * NOISE
  images = X, run(G, z), run(G, PRIOR)
  seen = [run(HIDDEN, x) for x in images]
  real, rebuilt, prior = (run(HEAD, f) for f in seen)
  # Values: sums over units and features, means over images and both fakes.
  kl = 0.5 * (np.exp(log_var) + mean**2 - 1 - log_var).sum(1).mean()
  similarity = 0.5 * ((seen[0] - seen[1]) ** 2).sum(1).mean()
  softplus = lambda y: np.log1p(np.exp(y)).mean()
  expected = dict(
    kl=kl,
    similarity=similarity,
    g_loss=(softplus(-rebuilt) + softplus(-prior)) / 2,
    d_loss=softplus(-real) + (softplus(rebuilt) + softplus(prior)) / 2,
    reconstruction_error=((X - images[1]) ** 2).mean(),
  )
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
  # Slopes of what each network minimises.
  n, sigmoid = len(X), lambda y: 1 / (1 + np.exp(-y))
  similar = (seen[1] - seen[0]) @ HIDDEN[0].T / n
  fool = [
    -sigmoid(-y) / (2 * n) @ HEAD[0].T @ HIDDEN[0].T for y in (rebuilt, prior)
  ]
  decoder = moved(G, [z, PRIOR], [gamma * similar + fool[0], fool[1]])
  z_slope = similar @ G[0].T
  code_slope = np.concatenate(
    [
      z_slope + mean / n,
      z_slope * NOISE * np.exp(log_var / 2) / 2 + (np.exp(log_var) - 1) / 2 / n,
    ],
    axis=1,
  )
  tell = [-sigmoid(-real) / n] + [
    sigmoid(y) / (2 * n) for y in (rebuilt, prior)
  ]
  after = dict(
    encoder=dict(output=moved(E, [X], [code_slope])),
    decoder=dict(output=decoder),
    discriminator=dict(
      hidden=moved(HIDDEN, images, [y @ HEAD[0].T for y in tell]),
      head=moved(HEAD, seen, tell),
    ),
  )
  found = {name: new.nets[name].params for name in after}
  assert largest_difference(found, after) < 1e-6
  norms = [metrics[f"{letter}_grad_norm"] for letter in "egd"]
  before = [state.nets[name].params for name in after]
  for norm, old, now in zip(norms, before, after.values(), strict=True):
    squares = jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), old, now)
    total = sum(jax.tree.leaves(squares))
    np.testing.assert_allclose(norm, np.sqrt(total), rtol=1e-4)


def test_equal_images_have_equal_features():
  """Whatever D drops: of x and of x' it is the same."""
  judge = nets.get(
    "mlp", "discriminator", (2,), hidden=(16,), dropout=0.5, init_range=0.5
  )
  system = make(judge, linear=True, z_dim=1)
  state = start(system, X)
  grey = dict(output=layer((np.zeros((1, 2)), np.array([0.4, 0.7]))))
  state = state.replace_nets(decoder=state.nets["decoder"].replace(params=grey))
  images = jnp.broadcast_to(jnp.array([0.4, 0.7]), (1, 8, 2))
  step = jax.jit(system.train_step)
  _, metrics = step(state, data.Arrays(images), jax.random.key(0))
  assert metrics["similarity"] == 0
  _, metrics = step(state, data.Arrays(images + 0.1), jax.random.key(0))
  assert metrics["similarity"] > 1e-4


@pytest.mark.slow
def test_devices_do_not_change_the_update():
  """Batch norm, noise and dropout included; SGD shows a wrong scale."""
  after = []
  for num_devices in 1, 2:
    devices = jax.devices()[:num_devices]
    loss = dict(name="hinge", relativism="average")  # Of the whole batch.
    system = make(loss=loss, ema_decay=0.9)
    first = start(system)
    state, arrays = program.replicate((first, data.Arrays(IMAGES)), devices)
    step = program.map_step(system.train_step, to_network, devices)
    for i in range(2):
      indices = data.batch_indices(0, i * 8, 8, len(IMAGES)).reshape(1, 8)
      indices = program.shard(indices, num_devices)
      state, metrics = step(state, arrays, indices, jax.random.key(1), i)
    after.append(jax.device_get((program.local(state), metrics)))
    for name in "encoder", "decoder", "discriminator":
      new, old = (s.nets[name].params for s in (after[-1][0], first))
      assert largest_difference(new, old) > 1e-4, name
  assert largest_difference(*(state for state, _ in after)) < 1e-5
  one, two = (metrics for _, metrics in after)
  for name in one:
    np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-5)


def test_what_a_trained_one_can_do():
  judge = nets.get("dcgan", "discriminator", SHAPE, width=2, norm="spectral")
  system = make(judge, ema_decay=0.5)
  before, key, real = start(system), jax.random.key(3), batch().images[0]
  state, _ = jax.jit(system.train_step)(before, batch(), key)

  def apply(name, net, x):
    variables = {"params": net.params, **net.stats}
    return system.networks[name].apply(variables, x, train=False)

  @jax.jit
  def abilities(state):
    average, z = state.ema, system.encode(state, real)
    codes = [
      apply("encoder", x, real)
      for x in (average["encoder"], state.nets["encoder"])
    ]
    settled = system.settle(state, key, 6, None, True, None, 1.0)
    same = dict(
      code=(z, codes[0][:, :2]),
      decoded=(
        system.decode(state, z),
        apply("decoder", average["decoder"], z),
      ),
      rebuilt=(system.reconstruct(state, real), system.decode(state, z)),
      score=(
        system.score(state, real),
        apply("discriminator", state.discriminator, real).logits,
      ),
      # Settled on these samples alone, running statistics are theirs.
      drawn=(
        system.sample(settled, key, 6),
        system.sample(state, key, 6, batch=True),
      ),
    )
    other = dict(
      code=codes, drawn=(same["drawn"][0], system.sample(state, key, 6))
    )
    return same, other

  same, other = abilities(state)
  for name, (found, expected) in same.items():
    np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)
  for name, average in state.ema.items():  # At first so much of the past: .1.
    old, now = (x.nets[name].params for x in (before, state))
    expected = mix(0.1, old, now)
    assert largest_difference(average.params, expected) < 1e-6, name
  assert same["drawn"][0].shape == (6, *SHAPE)
  for name, pair in other.items():
    assert largest_difference(*pair) > 1e-3, name
  # Spectral norm is refined once a step, over the real images.
  net, new = before.discriminator, state.discriminator.stats["spectral"]
  forward = jax.jit(functools.partial(states.forward, judge))
  _, once = forward(net.params, net.stats, real, key=key)
  assert largest_difference(new, once["spectral"]) < 1e-6
  assert largest_difference(new, net.stats["spectral"]) > 1e-4


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_fits(name):
  """And in bfloat16 all that is not inside of a network stays float32."""
  system = make(loss=dict(name=name), precision="bfloat16")
  arrays = to_network(data.Arrays(jnp.asarray(IMAGES)))
  state = jax.eval_shape(system.init, jax.random.key(0), arrays)
  new, metrics = jax.eval_shape(
    system.train_step, state, batch(), jax.random.key(0)
  )
  shapes = functools.partial(jax.tree.map, lambda x: (x.shape, x.dtype))
  assert shapes(new) == shapes(state)
  assert {(x.shape, x.dtype) for x in metrics.values()} == {
    ((), jnp.float32.dtype)
  }


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_one(tmp_path):

  def run_to(num_steps, folder) -> Any:
    config = configs.load("digits_vaegan:smoke")
    config.evals = {}
    config.update(num_steps=num_steps, log_every=1)
    config.checkpoint.best, config.dataset.size = "", 8
    one = jax.devices()[:1]
    return train.train(config, tmp_path / folder, one, report=False)

  whole = run_to(3, "whole")
  run_to(2, "halves")
  resumed = run_to(3, "halves")
  assert largest_difference(whole.state, resumed.state) == 0
  assert {"kl", "similarity", "g_loss", "d_loss"} < whole.history()[-1].keys()
  loaded = runs.load(tmp_path / "halves")
  assert loaded.step == 3 and set(loaded.state.ema) == {"encoder", "decoder"}
  images = configs.load_data(loaded.config, "test").images[:3]
  codes = loaded.encode(images)
  assert codes.shape == (3, loaded.config.system.z_dim)
  np.testing.assert_array_equal(
    loaded.reconstruct(images), loaded.decode(codes)
  )
  np.testing.assert_array_equal(
    loaded.sample(3), loaded.decode(loaded.latents(3))
  )


class Blind(nn.Module):
  """A discriminator without a dense layer."""

  @nn.compact
  def __call__(self, images, labels=None, train=True):
    """Maps `[n, 2]` to logits `[n]`."""
    del labels, train
    return images.sum(1) * self.param("scale", nn.initializers.ones, ())[None]


def test_mistakes_are_named():
  system = make(Blind(), linear=True)
  points = data.Arrays(jnp.asarray(X)[None])
  with pytest.raises(errors.UserError, match="returns its features"):
    system.train_step(start(system, X), points, jax.random.key(0))
  config = configs.load("digits_vaegan:smoke")
  for section, changes, text in (
    ("system", dict(gamma=-1.0), "system.gamma=-1.0 is out of range: 0 or"),
    ("system", dict(z_dim=0), "system.z_dim=0 is out of range"),
    ("system", dict(gama=1.0), "did you mean 'gamma'"),
    ("discriminator", dict(name="dcgam"), "did you mean 'dcgan'"),
  ):
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
      changed[section].update(changes)
    with pytest.raises(errors.UserError, match=text):
      configs.resolve(changed)
