"""WORKSPACE.md's recipes, followed to the letter: no other file is touched."""

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

  class Generator(nn.Module):
    image_shape: tuple
    num_classes: int = 0
    axis_name: str | None = None
    width: int = 4

    @nn.compact
    def __call__(self, z, labels=None, train=True):
      x = nn.Dense(self.width)(z)
      x = nn.Dense(self.image_shape[0] * self.image_shape[1])(x)
      return x.reshape(-1, *self.image_shape)

  class Discriminator(nn.Module):
    image_shape: tuple
    num_classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, labels=None, train=True):
      return nn.Dense(1)(images.reshape(len(images), -1))[:, 0]
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
  from ganjax.systems import gan

  def make(generator, discriminator, loss, g_opt, d_opt, *, z_dim: int = 2,
           axis_name=None):
    return gan.make(generator, discriminator, loss, g_opt, d_opt,
                    z_dim=z_dim, axis_name=axis_name)
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
  return path


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
