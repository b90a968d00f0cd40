"""RaSGAN-GP on CIFAR-10: each image against the mean of its opponents.

Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734), the second stable
setting of the authors' code: five updates of D for one of G, Adam with 1e-4
and .5 / .9, gradient penalty 10, spectral norm on all but the last layer,
batches of 32. The nets are those of `cifar_dcgan`, not the paper's.

    pip install -e '.[tfds]' && python -m ganjax.main \
        --config experiments/cifar_rasgan_gp.py

Expected: not run to its end yet, see results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_dcgan` with what this experiment changes."""
  config = configs.load(f"cifar_dcgan:{arg}")
  config.batch_size = 32
  config.d_steps_per_g_step = 5
  config.loss.relativism = "average"
  config.penalties = dict(gradient_penalty=dict(weight=10.0))
  config.discriminator.update(norm="spectral", spectral_skip=("head",))
  for player in config.g_opt, config.d_opt:
    player.update(learning_rate=1e-4, b1=0.5, b2=0.9)
  config.ema.decay = 0.0
  return config
