"""LSGAN on CIFAR-10: least squares with the targets 0, 1, 1.

Mao et al. 2017 (https://arxiv.org/abs/1611.04076), eq. 9, in the stable
setting of the relativistic GAN (Jolicoeur-Martineau 2018,
https://arxiv.org/abs/1807.00734), as in `cifar_rsgan`; RaLSGAN is
`--config.loss.relativism=average`.

    pip install -e '.[tfds]' && ganjax train --config cifar_lsgan

Expected: not run to its end yet, see results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_rsgan` with what this experiment changes."""
  config = configs.load(f"cifar_rsgan:{arg}")
  config.loss = dict(
    name="least_squares",
    fake_target=0.0,
    real_target=1.0,
    generator_target=1.0,
  )
  return config
