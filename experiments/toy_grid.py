"""A grid of 25 Gaussians in the plane.

The data of PacGAN (Lin et al. 2018, https://arxiv.org/abs/1712.04086), scaled
to [-1, 1], with the plain game and z of two dimensions.

    ganjax train --config toy_grid

Expected (seeds 0, 1, 2): 25 of 25 modes each, 65 to 74 % of the samples within
three standard deviations of one.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `toy_ring` with what this experiment changes."""
  config = configs.load(f"toy_ring:{arg}")
  config.dataset.kind = "grid"
  config.system.z_dim = 2
  return config
