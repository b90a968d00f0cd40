"""RSGAN on CIFAR-10: each real image against one fake.

Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734), the stable setting
of the authors' code: spectral norm on all but the last layer, batches of 32,
Adam with 2e-4 and .5 / .999. The nets are those of `cifar_dcgan`, not the
paper's standard CNN.

    pip install -e '.[tfds]' && python -m ganjax.main \
        --config experiments/cifar_rsgan.py

Expected: not run to its end yet, see results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_dcgan` with what this experiment changes."""
  config = configs.load(f"cifar_dcgan:{arg}")
  config.batch_size = 32
  config.loss.relativism = "pairing"
  config.discriminator.update(norm="spectral", spectral_skip=("head",))
  config.ema.decay = 0.0
  return config
