"""WGAN-GP on CIFAR-10: a Wasserstein critic with gradient penalty.

Gulrajani et al. 2017 (https://arxiv.org/abs/1704.00028), algorithm 1: penalty
10, five updates of the critic for one of G, Adam with 1e-4 and 0 / .9, no
batch norm in the critic. The nets are those of `cifar_dcgan`.

    pip install -e '.[tfds]' && python -m ganjax.main \
        --config experiments/cifar_wgan_gp.py

Expected: not run to its end yet, see results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_dcgan` with what this experiment changes."""
  config = configs.load(f"cifar_dcgan:{arg}")
  config.d_steps_per_g_step = 5
  config.loss = dict(name="wasserstein")
  config.penalties = dict(gradient_penalty=dict(weight=10.0, target=1.0))
  config.discriminator.norm = "none"
  for player in config.g_opt, config.d_opt:
    player.update(learning_rate=1e-4, b1=0.0, b2=0.9)
  return config
