"""RSGAN on CIFAR-10: each real image against one fake.

Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734), the stable setting
of the author's code: the standard CNN, spectral norm on all but D's last
layer, batches of 32, Adam with 2e-4 and .5 / .999. The other losses of the
paper's table are `--config.loss.name=hinge` and the like, with
`--config.loss.relativism=none`, `pairing` or `average`.

    pip install -e '.[tfds]' && ganjax train --config cifar_rsgan

As there, samples are normalised by the statistics of their own batch. Expected:
the paper's FID is 36.6, in Inception's features, here it is in those of a
classifier. Not run to its end yet, see results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_dcgan` with what this experiment changes."""
  config = configs.load(f"cifar_dcgan:{arg}")
  config.batch_size = 32
  config.loss.relativism = "pairing"
  cnn = dict(name="cnn", width=config.discriminator.width)
  config.generator = cnn
  config.discriminator = cnn | dict(norm="spectral")
  config.ema.decay = 0.0
  config.system.statistics = "batch"
  return config
