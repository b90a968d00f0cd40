"""Adaptive augmentation on CIFAR-10, with lazy R1.

Karras et al. 2020 (https://arxiv.org/abs/2006.06676): D sees augmented images,
and how often follows how far it overfits (target .6, p rises from 0 to 1 in
500,000 images at most); R1 at every 16th step. The nets and the rates are
those of `cifar_dcgan`, without batch norm in D.

    pip install -e '.[tfds]' && ganjax train --config cifar_ada

Expected: not run to its end yet, see results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_dcgan` with what this experiment changes."""
  config = configs.load(f"cifar_dcgan:{arg}")
  config.augment = dict(name="ada", target=0.6, adjust_images=500_000)
  config.penalties = dict(r1=dict(gamma=0.1, every=16))
  config.discriminator.norm = "none"
  return config
