"""RaSGAN-GP on CIFAR-10: each image against the mean of its opponents.

Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734), the stable setting
of the author's code, as in `cifar_rsgan`, with a gradient penalty of 10; one
update of D for one of G, with which the paper says it beats WGAN-GP's five.

    pip install -e '.[tfds]' && ganjax train --config cifar_rasgan_gp

Expected: the paper's table has an FID of 331.9 for its one seed, the
reproduction of the ICLR 2019 challenge 24.7. Not run to its end yet, see
results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_rsgan` with what this experiment changes."""
  config = configs.load(f"cifar_rsgan:{arg}")
  config.loss.relativism = "average"
  config.penalties = dict(gradient_penalty=dict(weight=10.0))
  return config
