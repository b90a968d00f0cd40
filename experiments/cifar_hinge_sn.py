"""SNGAN on CIFAR-10: hinge loss, spectral norm on every layer of D.

Miyato et al. 2018 (https://arxiv.org/abs/1802.05957): five updates of D for
one of G, Adam with 2e-4 and 0 / .9. The nets are those of `cifar_dcgan`.

    pip install -e '.[tfds]' && python -m ganjax.main \
        --config experiments/cifar_hinge_sn.py

Expected: not run to its end yet, see results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_dcgan` with what this experiment changes."""
  config = configs.load(f"cifar_dcgan:{arg}")
  config.d_steps_per_g_step = 5
  config.loss = dict(name="hinge")
  config.discriminator.norm = "spectral"
  for player in config.g_opt, config.d_opt:
    player.update(learning_rate=2e-4, b1=0.0, b2=0.9)
  return config
