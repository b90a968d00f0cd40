"""CycleGAN (Zhu et al. 2017): unpaired images of two domains, to each other.

The example of a system that ganjax does not have, built outside of it: two
generators from images to images, two discriminators, a cycle between them. An
example of the dataset shows domain A on its left half and domain B on its
right half; which of A stands beside which of B means nothing.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ganjax import data, losses, nets, parallel
from ganjax.nets.judged import Judged
from ganjax.ranges import AtLeast0, Count
from ganjax.state import State
from ganjax.systems import SYSTEMS, System, Update, ability

BANK = 64  # Images whose translations are the samples.


@data.register(name="digits_and_negatives")
def load(split: str = "train", size: Count = 16) -> data.Arrays:
  """Digits as they are beside other digits, white and black exchanged."""
  digits = data.find("digits")(split, size=size)
  others = np.random.RandomState(0).permutation(len(digits.images))
  images = np.concatenate([digits.images, 255 - digits.images[others]], axis=2)
  return data.Arrays(images)


@nets.register("translator", role="generator")
class Translator(nn.Module):
  """image -> half its size -> image: a small generator of section 7.1."""

  image_shape: tuple[int, ...]
  width: Count = 32

  @nn.compact
  def __call__(self, images, train=True):
    """Maps images `[N, H, W, C]` to images of the same shape."""
    del train
    x = nn.relu(nn.Conv(self.width, (7, 7))(images))
    x = nn.relu(nn.Conv(2 * self.width, (3, 3), strides=(2, 2))(x))
    x = x + nn.Conv(2 * self.width, (3, 3))(nn.relu(x))
    x = nn.relu(nn.ConvTranspose(self.width, (4, 4), strides=(2, 2))(x))
    return jnp.tanh(nn.Conv(self.image_shape[-1], (7, 7))(x))


@SYSTEMS.register(name="cyclegan")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CycleGAN(System):
  """Two players for each direction, and images that come back from a cycle.

  Attributes:
    generator_ab: images of A to images of B.
    generator_ba: images of B to images of A.
    discriminator_a: of images of A, real and translated.
    discriminator_b: of images of B, real and translated.
    loss: the paper's is `least_squares`.
    g_opt: of both generators.
    d_opt: of both discriminators.
    cycle_weight: the paper's lambda of equation 3.
  """

  generator_ab: nn.Module
  generator_ba: nn.Module
  discriminator_a: nn.Module
  discriminator_b: nn.Module
  loss: losses.Loss
  g_opt: optax.GradientTransformation
  d_opt: optax.GradientTransformation
  cycle_weight: AtLeast0 = 10.0

  @property
  def networks(self):
    """All four, each of images of one domain: half as wide as an example."""
    height, width, channels = self.generator_ab.image_shape
    shape = (height, width // 2, channels)
    names = (
      "generator_ab",
      "generator_ba",
      "discriminator_a",
      "discriminator_b",
    )
    return {
      name: getattr(self, name).clone(image_shape=shape) for name in names
    }

  def init(self, key, arrays):
    """Initialises all four networks, and keeps images for samples."""
    nets = {}
    half, _ = jnp.split(arrays.images[:2], 2, axis=2)
    for i, name in enumerate(self.networks):
      player = self.g_opt if name.startswith("generator") else self.d_opt
      rngs = {"params": jax.random.fold_in(key, i), "dropout": key}
      nets[name] = self.create(name, rngs, half, optimizer=player)
    bank = arrays.images[jnp.arange(BANK) % len(arrays.images)]
    return State.create(nets, memory={"bank": bank})

  def updates(self):
    """Returns an update of both discriminators, then one of both generators."""
    return (Update(self.discriminators_step), Update(self.generators_step))

  def judge(self, state, name, params, images, key):
    """Returns the logits `[N]` of the global batch, and D's new statistics."""
    net = state.nets[name].replace(params=params)
    output, stats = self.forward(name, net, images, key=key)
    return parallel.gather(Judged.of(output).logits), stats

  def translate(self, state, params, a, b, key):
    """Returns the images of both domains, each made of the other's."""
    nets = {k: state.nets[k].replace(params=p) for k, p in params.items()}
    b_of_a, _ = self.forward("generator_ab", nets["generator_ab"], a, key=key)
    a_of_b, _ = self.forward("generator_ba", nets["generator_ba"], b, key=key)
    return a_of_b, b_of_a

  def generator_params(self, state):
    """Returns the parameters of both generators by name."""
    names = ("generator_ab", "generator_ba")
    return {name: state.nets[name].params for name in names}

  def discriminators_step(self, state, real, key, skip=()):
    """Moves each discriminator: its own images against translated ones."""
    a, b = jnp.split(real.images, 2, axis=2)
    fakes = self.translate(state, self.generator_params(state), a, b, key)
    metrics = {}
    for letter, images, fake in ("a", a, fakes[0]), ("b", b, fakes[1]):
      name = f"discriminator_{letter}"
      loss, player = self.discriminator_step(state, name, images, fake, key)
      state = state.replace_nets(**{name: player})
      metrics[f"d_loss_{letter}"] = loss
    return state, metrics

  def discriminator_step(self, state, name, images, fake, key):
    """Returns a discriminator's loss, and the discriminator after a step."""
    player = state.nets[name]

    def objective(params):
      on_real, stats = self.judge(state, name, params, images, key)
      on_fake, _ = self.judge(state, name, params, fake, key)
      return self.loss.discriminator(on_real, on_fake), stats

    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (loss, stats), grads = value_and_grad(player.params)
    return loss, player.update(self.d_opt, parallel.mean(grads), stats)

  def generators_step(self, state, real, key, skip=()):
    """Moves both generators: to fool D, and to come back (equation 3)."""
    a, b = jnp.split(real.images, 2, axis=2)

    def objective(params):
      a_of_b, b_of_a = self.translate(state, params, a, b, key)
      a_again, b_again = self.translate(state, params, a_of_b, b_of_a, key)
      # E |F(G(a)) - a| + E |G(F(b)) - b|, equation 2.
      cycle = jnp.abs(a_again - a).mean() + jnp.abs(b_again - b).mean()
      game = 0.0
      for letter, images, fake in ("a", a, a_of_b), ("b", b, b_of_a):
        name = f"discriminator_{letter}"
        params_of_d = state.nets[name].params
        on_real, _ = self.judge(state, name, params_of_d, images, key)
        on_fake, _ = self.judge(state, name, params_of_d, fake, key)
        game += self.loss.generator(on_real, on_fake)
      return game + self.cycle_weight * cycle, (game, cycle)

    params = self.generator_params(state)
    grads, (game, cycle) = jax.grad(objective, has_aux=True)(params)
    grads = parallel.mean(grads)
    nets = {
      name: state.nets[name].update(self.g_opt, grad, state.nets[name].stats)
      for name, grad in grads.items()
    }
    metrics = {"g_loss": game, "cycle_loss": parallel.mean(cycle)}
    return state.replace_nets(**nets).count_step(), metrics

  def sample(
    self, state, key, n, labels=None, ema=True, truncation=None, batch=False
  ):
    """Returns images of A beside what they become in B."""
    images = state.memory["bank"][jnp.arange(n) % BANK]
    return self.show(state, images)

  @ability(returns="images")
  def show(self, state, images, labels=None):
    """Returns the left halves of images, each beside its translation."""
    a, _ = jnp.split(images, 2, axis=2)
    translated = self.evaluate("generator_ab", state.nets["generator_ab"], a)
    return jnp.concatenate([a, translated], axis=2)
