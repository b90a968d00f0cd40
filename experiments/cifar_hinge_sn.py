"""SNGAN on CIFAR-10: hinge loss, spectral norm on every layer of D.

Miyato et al. 2018 (https://arxiv.org/abs/1802.05957), residual networks: five
updates of D for one of G, Adam with 0 / .9 and a rate that falls from 2e-4 to
0 over the 50,000 steps of the authors' code. That code draws 128 images for an
update of G, here it is 64, and it scores G itself, here its average.

    pip install -e '.[tfds]' && ganjax train --config cifar_hinge_sn

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
  config.loss = dict(name="hinge")
  config.generator = dict(name="resnet")
  config.discriminator = dict(name="resnet", norm="spectral")
  config.num_steps = min(config.num_steps, 50_000)
  config.update({"": {}, "smoke": SMOKE}[arg])
  config.g_opt = adam(config.num_steps)
  config.d_opt = adam(config.num_steps * config.d_steps_per_g_step)
  return config
