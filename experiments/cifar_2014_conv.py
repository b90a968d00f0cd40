"""The convolutional CIFAR-10 experiment of 2014, as the authors' code has it.

Goodfellow et al. 2014 (https://arxiv.org/abs/1406.2661), figure 2d: a
deconvolutional G, a D of maxout convolutions with dropout, batches of 128 and
a learning rate of .004 / 1.000004^t; all else as in `cifar_2014_fc`. An epoch
is 312 whole batches.

    pip install -e '.[tfds]' && ganjax train --config cifar_2014_conv

The paper has samples and no score. Not run to its end yet, see
results/README.md; for a GPU.
"""

import ml_collections

from ganjax import configs

EPOCH = 312

SMOKE = dict(
  batch_size=8,
  num_steps=2,
  generator=dict(hidden=8, channels=2),
  discriminator=dict(channels=(2, 2, 2), hidden=4),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns `cifar_2014_fc` with what this experiment changes."""
  config = configs.load("cifar_2014_fc")
  config.update(num_steps=100 * EPOCH, batch_size=128)
  config.generator = config.discriminator = dict(name="cnn2014")
  for player in config.g_opt, config.d_opt:
    player.learning_rate.init_value = 0.004
    player.momentum.stair_length = EPOCH
  for interval in config.samples, config.checkpoint:
    interval.every = 5 * EPOCH
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
