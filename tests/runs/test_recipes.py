"""The recipes of docs/recipes.md, followed: no other file is touched."""

import textwrap

import jax.numpy as jnp
import pytest

import ganjax
from ganjax import data, main, nets, systems
from ganjax.evaluation import metrics
from ganjax.objectives import losses

EXPERIMENT = """
  import ml_collections

  def get_config(arg=""):
    sgd = dict(name="sgd", learning_rate=0.1)
    config = ml_collections.ConfigDict(dict(
      num_steps=2, batch_size=8, scaling="unit",
      system=dict(name="my_system", z_dim=4),
      dataset=dict(name="my_data", shade=3),
      generator=dict(name="my_net", width=2),
      discriminator=dict(name="my_net"),
      loss=dict(name="my_loss", margin=0.5),
      g_opt=sgd, d_opt=sgd,
      evals=dict(my_metric=dict(every=1, scale=2.0)),
    ))
    config.update({"": {}, "smoke": {}}[arg])
    return config
"""
NET = """
  import flax.linen as nn
  import jax.numpy as jnp
  from ganjax.nets.judged import Judged

  class Generator(nn.Module):
    image_shape: tuple
    width: int = 4

    @nn.compact
    def __call__(self, z, labels=None, train=True):
      x = nn.Dense(self.width)(z)
      x = nn.Dense(self.image_shape[0] * self.image_shape[1])(x)
      return x.reshape(-1, *self.image_shape)

  class Discriminator(nn.Module):
    image_shape: tuple

    @nn.compact
    def __call__(self, images, labels=None, train=True):
      features = images.reshape(len(images), -1)
      return Judged(nn.Dense(1)(features)[:, 0], features)
"""
DATA = """
  import numpy as np
  from ganjax import data

  @data.register(name="my_data")
  def load(split="train", shade: int = 1):
    images = np.full((32, 8, 8, 1), shade, np.uint8)
    images[1::2] *= 2
    return data.Arrays(images, np.arange(32, dtype=np.int32) % 2, 2)
"""
METRIC = """
  from ganjax import metrics

  @metrics.register(on="features", better={"my_value": "higher"})
  def my_metric(scale: float = 1.0):
    def metric(real, fake):
      return metrics.Record({"my_value": scale * len(fake)}, {})
    return metric
"""
SYSTEM = """
  import dataclasses
  import flax.linen as nn
  import jax
  import jax.numpy as jnp
  import optax
  from ganjax import parallel
  from ganjax.objectives.losses import Loss
  from ganjax.state import State
  from ganjax.systems import SYSTEMS, LatentSystem, Update

  @SYSTEMS.register(name="my_system")
  @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
  class MySystem(LatentSystem):
    generator: nn.Module
    discriminator: nn.Module
    loss: Loss
    g_opt: optax.GradientTransformation
    d_opt: optax.GradientTransformation
    z_dim: int = 2

    def init(self, key, arrays):
      z = jnp.zeros((2, self.z_dim))
      g = self.create("generator", key, z, optimizer=self.g_opt)
      d = self.create(
        "discriminator", key, arrays.images[:2], optimizer=self.d_opt)
      return State.create({"generator": g, "discriminator": d})

    def updates(self):
      return (Update(self.step),)

    def step(self, state, real, key, skip=()):
      z = self.latents(key, len(real.images))
      def loss_of(params):
        g = state.generator.replace(params=params["generator"])
        d = state.discriminator.replace(params=params["discriminator"])
        fake, _ = self.forward("generator", g, z, key=key)
        r, _ = self.forward("discriminator", d, real.images, key=key)
        f, _ = self.forward("discriminator", d, fake, key=key)
        logits = parallel.gather(r.logits), parallel.gather(f.logits)
        return self.loss.discriminator(*logits)
      params = {name: net.params for name, net in state.nets.items()}
      loss, grads = jax.value_and_grad(loss_of)(params)
      grads = parallel.mean(grads)
      nets = {
        name: net.update(self.d_opt, grads[name], net.stats)
        for name, net in state.nets.items()
      }
      return state.replace_nets(**nets).count_step(), {"d_loss": loss}

    def sample_one_z(self, key, truncation=None):
      return jax.random.normal(key, (self.z_dim,))

    def render(self, state, nets, z, labels, key=None):
      net = nets["generator"]
      return self.evaluate("generator", net, z), {"generator": net.stats}
"""


@pytest.fixture
def additions(tmp_path, monkeypatch):
  """Puts one new file into each package, and a loss into the registry."""
  new = {
    nets: ("my_net", NET),
    data: ("my_data", DATA),
    metrics: ("my_metric", METRIC),
    systems: ("my_system", SYSTEM),
  }
  for package, (name, text) in new.items():
    folder = tmp_path / package.__name__
    folder.mkdir()
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    path = [*package.__path__, str(folder)]
    monkeypatch.setattr(package, "__path__", path)

  def my_loss(margin: float = 1.0) -> losses.Loss:
    def discriminator(real_logits, fake_logits):
      return jnp.square(real_logits.mean() - fake_logits.mean() - margin)

    def generator(real_logits, fake_logits):
      del real_logits
      return -fake_logits.mean()

    return losses.Loss(discriminator, generator)

  monkeypatch.setitem(losses.LOSSES, "my_loss", my_loss)
  path = tmp_path / "mine.py"
  path.write_text(textwrap.dedent(EXPERIMENT))
  yield path
  data.DATASETS.pop("my_data", None)
  metrics.METRICS.pop("my_metric", None)
  systems.SYSTEMS.pop("my_system", None)


def test_every_recipe(additions, tmp_path, capsys):
  workdir = tmp_path / "run"
  argv = ["main", f"--config={additions}:smoke", f"--workdir={workdir}"]
  assert main.main([*argv, "--config.loss.margin=0.25"]) == 0
  assert "my value" in capsys.readouterr().out
  run = ganjax.load(workdir)
  assert run.config.loss.margin == 0.25
  assert run.history()[-1]["my_value"] == 64  # Twice the 32 held-out images.
  assert run.sample(3).shape == (3, 8, 8, 1)
  other = [argv[0], argv[1], f"--workdir={tmp_path / 'other'}"]
  assert main.main([*other, "--config.ema.decay=0.9"]) == 2
  assert "'my_system' has no ema_decay" in capsys.readouterr().err
  assert main.main([*argv, "--config.loss.margn=1"]) == 2
  assert "did you mean 'margin'" in capsys.readouterr().err
