"""Generative adversarial nets (Goodfellow et al. 2014, Algorithm 1)."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax.nets.judged import Judged
from ganjax.objectives import losses, measurements
from ganjax.objectives.augment import AUGMENTATIONS, Augmentation
from ganjax.objectives.penalties import Penalty, View
from ganjax.state import State
from ganjax.systems import SYSTEMS, auxiliary, logan, top_k
from ganjax.systems.adversarial import (
  AdversarialSystem,
  Extras,
  StepKeys,
  add_noise,
  noise_schedule,
  penalty_memory,
  penalty_terms,
)
from ganjax.systems.system import STATISTICS, Metrics, Net, Update

NO_AUGMENTATION: Augmentation = AUGMENTATIONS.find("none")()


@SYSTEMS.register(name="gan")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class GAN(AdversarialSystem):
  """A generator against a discriminator.

  Attributes:
    generator: see `ganjax.nets`.
    discriminator: see `ganjax.nets`.
    loss: what each player minimises.
    g_opt: the generator's optimizer.
    d_opt: the discriminator's optimizer.
    penalties: name -> what is added to the losses.
    augment: what D sees instead of images, real and fake alike.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    d_steps_per_g_step: the k of Algorithm 1.
    simultaneous: update both players at once from the same images, noise and
      dropout masks, as the authors' code of 2014 did; else alternate, with
      fresh noise for each update, as their paper says.
    generator_real: where G's loss uses real images (relativistic losses):
      "fresh" for a batch of their own, as the papers' codes do, "same" for
      D's last one. A simultaneous update has but one batch.
    label_smoothing: one-sided, see `losses.smooth`.
    instance_noise: the standard deviation of Gaussian noise on all that D
      sees (Arjovsky & Bottou 2017; Sonderby et al. 2017).
    instance_noise_steps: over which it falls to 0 in a line; 0 for never.
    ema_decay: of the averaged generator, or step -> decay; 0 for none.
    statistics: by which samples are normalised. "running": training's average.
      "batch": their own, in chunks of 64, in training mode, dropout included,
      as the relativistic GAN's code draws (in batches of 100). "standing": the
      mean of those of 16 chunks, all classes in turn, drawn with the samples'
      weights and truncation (Brock et al. 2019, appendix C.1: of about 100).
    top_k: the share of the fakes that count for G in the end, those that D
      finds most real (Sinha et al. 2020; theirs is 0.5); 1 for all.
    top_k_steps: over which that share falls from 1, see
      `top_k.share_schedule`; 0 to begin with it.
    latent_step: how far z goes towards what D takes for real before either
      player's update, see `logan.LatentStep` (Wu et al. 2019; theirs is 0.9);
      0 for not at all. Samples are drawn without it.
    latent_damping: of that step.
    latent_weight: of its squared length in both losses.
    auxiliary_weight: of the classes' loss of an AC-GAN, whose discriminator
      has `head="auxiliary"` (Odena et al. 2017; theirs is 1).
    precision: of the networks' arithmetic in training, see `System`.

  Raises:
    UserError: settings that are out of range, or exclude each other.
  """

  loss: losses.Loss
  penalties: Mapping[str, Penalty] = dataclasses.field(default_factory=dict)
  augment: Augmentation = NO_AUGMENTATION
  d_steps_per_g_step: int = 1
  simultaneous: bool = False
  generator_real: str = "fresh"
  label_smoothing: float = 0.0
  instance_noise: float = 0.0
  instance_noise_steps: int = 0
  statistics: str = "running"  # pyright: ignore[reportIncompatibleVariableOverride]
  top_k: float = 1.0
  top_k_steps: int = 0
  latent_step: float = 0.0
  latent_damping: float = 5.0
  latent_weight: float = 300.0
  auxiliary_weight: float = 0.0

  def __post_init__(self):
    """Checks the settings, which are used when a step is first traced."""
    super().__post_init__()
    if self.simultaneous and self.d_steps_per_g_step != 1:
      raise errors.UserError(
        "config.system.simultaneous=True updates both players at once: "
        f"config.d_steps_per_g_step must be 1, not {self.d_steps_per_g_step}"
      )
    sources = ("fresh", "same")
    if self.generator_real not in sources:
      raise errors.unknown("generator_real", self.generator_real, sources)
    if self.statistics not in STATISTICS:
      raise errors.unknown("statistics", self.statistics, STATISTICS)
    auxiliary.check_weight(self.auxiliary_weight)
    # These raise where a number is out of range.
    _ = self.game, self.top_share, self.latent_move

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises both players; see `System.init`."""
    state = super().init(key, arrays)
    memory = penalty_memory(self.applied)
    if self.augment.memory:
      memory["augment"] = self.augment.memory
    return state.remember(**jax.tree.map(jnp.float32, memory))

  # Algorithm 1. -------------------------------------------------------------

  def updates(self) -> tuple[Update, ...]:
    """Returns k updates of D and one of G, or one of both at once."""
    if self.simultaneous:
      return (Update(self.simultaneous_step),)
    k = self.d_steps_per_g_step
    d_updates = [Update(self.discriminator_step, batch=i) for i in range(k)]
    # Only a relativistic G looks at reals: a batch more would be waste.
    fresh = self.generator_real == "fresh" and self.game.generator_uses_real
    g_update = Update(self.generator_step, batch=k if fresh else k - 1)
    return (*d_updates, g_update)

  def discriminator_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves D along its stochastic gradient: the inner loop of Algorithm 1."""
    self = self.at(state.step)
    keys = StepKeys.split(key)
    generator = state.generator
    discriminator = state.discriminator
    # Sample a minibatch of m noise samples; `real` is that of m examples.
    z = self.sample_z(keys.z, len(real.images))
    fake, _ = self.generate(generator, z, real.labels, keys.generator)

    def objective(params):
      d = discriminator.replace(params=params)
      moved_z, extras = self.refine_z(state, real, z, keys, d, generator)
      seen = fake
      if moved_z is not z:
        seen, _ = self.generate(generator, moved_z, real.labels, keys.generator)
      on_real, on_fake, stats = self.judge_both(
        state, d, real, seen, keys, iterate=True
      )
      loss = self.game.discriminator(on_real.logits, on_fake.logits)
      more = self.more_terms(params, on_real, on_fake, moved_z, real.labels)
      d = d.replace(stats=stats)
      view = self.penalty_view(
        state, real, seen, moved_z, keys, params, d, generator
      )
      extra, memory, values = penalty_terms(
        self.applied,
        "discriminator",
        skip,
        view,
        state.memory,
        {**extras, **more},
      )
      logits = (on_real.logits, on_fake.logits)
      return loss + extra, (loss, stats, logits, memory, values)

    grads, aux = jax.grad(objective, has_aux=True)(discriminator.params)
    loss, stats, logits, memory, values = aux
    grads = parallel.mean(grads)
    metrics = {
      "d_loss": loss,
      "d_grad_norm": optax.tree.norm(grads),
      **measurements.of_logits(self.game, *logits),
      **measurements.of_images(real.images, fake),
      **measurements.of_stats("d", stats),
      **values,
    }
    memory, augment_metrics = self.update_augment_p(
      memory, metrics, len(logits[0])
    )
    # Update the discriminator; the generator stays as it is.
    discriminator = discriminator.update(self.d_opt, grads, stats)
    state = state.replace_nets(discriminator=discriminator)
    return state.replace(memory=memory), {**metrics, **augment_metrics}

  def generator_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves G along its stochastic gradient: the outer loop of Algorithm 1.

    D is in training mode, and stays as it is.
    """
    self = self.at(state.step)
    keys = StepKeys.split(key)
    generator = state.generator
    discriminator = state.discriminator
    # Sample a minibatch of m noise samples.
    z = self.sample_z(keys.z, len(real.images))

    def objective(params):
      g = generator.replace(params=params)
      moved_z, extras = self.refine_z(state, real, z, keys, discriminator, g)
      fake, stats = self.generate(
        g, moved_z, real.labels, keys.generator, iterate=True
      )
      on_real, on_fake, _ = self.judge_both(
        state, discriminator, real, fake, keys
      )
      fake_logits = top_k.best(self.top_share, on_fake.logits, state.step)
      loss = self.game.generator(on_real.logits, fake_logits)
      more = self.more_terms(
        discriminator.params, on_real, on_fake, moved_z, real.labels
      )
      g = g.replace(stats=stats)
      view = self.penalty_view(
        state, real, fake, moved_z, keys, params, discriminator, g
      )
      extra, memory, values = penalty_terms(
        self.applied,
        "generator",
        skip,
        view,
        state.memory,
        {**extras, **more},
      )
      logits = (on_real.logits, fake_logits)
      return loss + extra, (loss, stats, logits, memory, values)

    grads, aux = jax.grad(objective, has_aux=True)(generator.params)
    loss, stats, logits, memory, values = aux
    grads = parallel.mean(grads)
    metrics = {
      "g_loss": loss,
      "g_grad_norm": optax.tree.norm(grads),
      **measurements.of_generator(self.game, *logits),
      **measurements.of_stats("g", stats),
      **values,
    }
    # Update the generator, its average and the count of steps.
    generator = generator.update(self.g_opt, grads, stats)
    state = state.replace_nets(generator=generator)
    state = state.replace(memory=memory)
    state = state.move_averages(self.ema_decay, "generator")
    return state.count_step(), metrics

  def simultaneous_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves both players from where both stand, with the same randomness."""
    after_d, d_metrics = self.discriminator_step(state, real, key, skip)
    # Of the memory G changes only what is its own, so it may see D's.
    before = state.replace(memory=after_d.memory)
    after_g, g_metrics = self.generator_step(before, real, key, skip)
    # G was moved against the old D; the new one takes its place afterwards.
    state = after_g.replace_nets(discriminator=after_d.discriminator)
    return state, {**d_metrics, **g_metrics}

  # What the steps are made of. ------------------------------------------------

  def at(self, step: Any) -> "GAN":
    """Returns the system whose numbers are those of a step.

    The numbers of penalties and of the augmentation may follow schedules. Each
    step begins with this; a subclass with scheduled parts of its own extends
    it.
    """
    penalties = {k: p.at(step) if p.at else p for k, p in self.applied.items()}
    augment = self.augment.at(step) if self.augment.at else self.augment
    return dataclasses.replace(self, penalties=penalties, augment=augment)

  @functools.cached_property
  def applied(self) -> dict[str, Penalty]:
    """The penalties that are not switched off."""
    return {k: p for k, p in self.penalties.items() if p.every}

  @property
  def lazy(self) -> dict[str, int]:
    """Penalty -> every how many steps it is due, where that is above 1."""
    return {k: p.every for k, p in self.applied.items() if p.every > 1}

  @functools.cached_property
  def game(self) -> losses.Loss:
    """The loss, with D's labels smoothed if they are to be."""
    return losses.smooth(self.loss, self.label_smoothing)

  @functools.cached_property
  def top_share(self) -> Callable[[Any], Any] | None:
    """Step -> the share of fakes that count for G, or None for all."""
    return top_k.share_schedule(self.top_k, self.top_k_steps)

  @functools.cached_property
  def latent_move(self) -> logan.LatentStep | None:
    """LOGAN's step of z, or None."""
    return logan.latent_step(
      self.latent_step, self.latent_damping, self.latent_weight, self.latent
    )

  def before_d(
    self, state: State, images: jax.Array, key: jax.Array
  ) -> jax.Array:
    """Returns images `[n, ...]` as D sees them: augmented, with noise."""
    keys = parallel.example_keys(jax.random.fold_in(key, 1), len(images))
    p = self.augment.probability(state.memory.get("augment", {}))
    images = self.augment.apply(images, keys, p)
    deviation = noise_schedule(self.instance_noise, self.instance_noise_steps)
    if deviation is None:
      return images
    return add_noise(images, deviation(state.step), key)

  def refine_z(
    self,
    state: State,
    real: Any,
    z: jax.Array,
    keys: StepKeys,
    d: Net,
    g: Net,
  ) -> tuple[jax.Array, Extras]:
    """Returns z `[n, z_dim]` as both players use it, and what that costs.

    It is z itself where LOGAN's step is off.
    """
    if self.latent_move is None:
      return z, {}

    def score(z):
      images, _ = self.generate(g, z, real.labels, keys.generator)
      judged, _ = self.judge(state, d, images, real.labels, keys.fake)
      return judged.logits

    return self.latent_move(score, z)

  def more_terms(
    self,
    d_params: Any,
    on_real: Judged,
    on_fake: Judged,
    z: jax.Array,
    labels: Any,
  ) -> Extras:
    """Returns what both players' losses have beside the game.

    Args:
      d_params: of the discriminator and of what belongs to it.
      on_real: what D makes of the reals.
      on_fake: what D makes of the fakes.
      z: of the fakes, `[n, z_dim]`.
      labels: of reals and fakes, `[n]`, or None.

    Returns:
      Name -> (value, weight): a scalar mean over this device's examples, which
      is logged under that name, and its factor in both losses, 0 for the log
      alone. Features and class logits are of this device; logits are of the
      global batch already.
    """
    del d_params, z
    if not self.auxiliary_weight:
      return {}
    return auxiliary.class_terms(
      self.auxiliary_weight, on_real, on_fake, labels
    )

  def penalty_view(
    self,
    state: State,
    real: Any,
    fake: jax.Array,
    z: jax.Array,
    keys: StepKeys,
    params: Any,
    d: Net,
    g: Net,
  ) -> View:
    """Returns what a player's penalties may look at.

    Args:
      state: of the system.
      real: the batch.
      fake: images `[n, ...]`.
      z: of `fake`.
      keys: of the update.
      params: of the player that is penalised.
      d: D, as the penalties see it.
      g: G, as the penalties see it.
    """

    def d_fn(images):
      return self.judge(state, d, images, real.labels, keys.real)[0].logits

    def g_fn(z):
      return self.generate(g, z, real.labels, keys.generator)[0]

    return View(
      d_fn=d_fn,
      g_fn=g_fn,
      draw_z=jax.vmap(self.sample_one_z),
      params=params,
      real=real.images,
      fake=fake,
      z=z,
      keys=parallel.example_keys(keys.penalties, len(z)),
      mean=parallel.mean,
    )

  def update_augment_p(
    self, memory: dict[str, Any], metrics: Metrics, num_real: int
  ) -> tuple[dict[str, Any], Metrics]:
    """Returns the memory after D judged some reals, and the augmentation's p.

    The controller of adaptive augmentation reads how sure D is of its reals.
    """
    if "augment" not in memory:
      return memory, {}
    sign = 2 * metrics["d_real_accuracy"] - 1
    now = self.augment.update(memory["augment"], sign, num_real)
    p = self.augment.probability(now)
    return {**memory, "augment": now}, {"augment_p": p}
