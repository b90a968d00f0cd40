"""BigGAN on CIFAR-10, class-conditional.

Brock et al. 2019 (https://arxiv.org/abs/1809.11096) have no 32x32 pixels. The
nets are those of PyTorch-StudioGAN (width 96, z of 80, attention at 16x16), the
training that of the CIFAR script in the authors' PyTorch code: hinge loss,
batches of 50, four updates of D for one of G, Adam with 2e-4 and 0 / .999, the
generator averaged with .9999. Theirs runs 125,000 steps, this one 100,000.

    pip install -e '.[tfds]' && ganjax train --config cifar_biggan

Expected: not run to its end yet, see results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_dcgan` with what this experiment changes."""
  config = configs.load(f"cifar_dcgan:{arg}")
  config.batch_size = 50
  config.d_steps_per_g_step = 4
  config.system.z_dim = 80
  width = 2 if arg == "smoke" else 96
  config.generator = dict(name="biggan", width=width)
  config.discriminator = dict(name="biggan", width=width)
  config.loss = dict(name="hinge")
  for player in config.g_opt, config.d_opt:
    player.update(learning_rate=2e-4, b1=0.0, b2=0.999)
  config.ema.decay = 0.9999
  return config
