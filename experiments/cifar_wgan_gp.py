"""WGAN-GP on CIFAR-10: a Wasserstein critic with gradient penalty.

Gulrajani et al. 2017 (https://arxiv.org/abs/1704.00028), residual networks:
penalty 10, five updates of the critic for one of G, Adam with 0 / .9 and a
rate that falls from 2e-4 to 0 over 100,000 steps, no norm in the critic. Their
code draws 128 images for an update of G, here it is 64, and dequantises.

    pip install -e '.[tfds]' && ganjax train --config cifar_wgan_gp

Expected: not run to its end yet, see results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs

SMOKE = dict(
  d_steps_per_g_step=2,
  generator=dict(width=1),
  discriminator=dict(width=1),
)


def adam(num_updates: int) -> dict:
  """Returns the spec of Adam whose rate falls to 0 over its updates."""
  rate = dict(init_value=2e-4, end_value=0.0, transition_steps=num_updates)
  rate |= dict(name="linear_schedule")
  return dict(name="adam", learning_rate=rate, b1=0.0, b2=0.9)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_dcgan` with what this experiment changes."""
  config = configs.load(f"cifar_dcgan:{arg}")
  config.d_steps_per_g_step = 5
  config.loss = dict(name="wasserstein")
  config.penalties = dict(gradient_penalty=dict(weight=10.0, target=1.0))
  config.generator = dict(name="resnet", width=32)
  config.discriminator = dict(name="resnet", norm="none", pooling="mean")
  config.update({"": {}, "smoke": SMOKE}[arg])
  config.g_opt = adam(config.num_steps)
  config.d_opt = adam(config.num_steps * config.d_steps_per_g_step)
  return config
