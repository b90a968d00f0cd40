"""DCGAN on MNIST, 28x28 as it comes.

Radford et al. 2016 (https://arxiv.org/abs/1511.06434).

    pip install -e '.[tfds]' && ganjax train --config mnist_dcgan

Expected: digits of all 10 classes, a Fréchet distance of about 13 in the
features of MNIST's classifier (held-out digits .7, noise 478; with 2e-4 for
both players 27); twelve minutes on two cores.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  generator=dict(width=4),
  discriminator=dict(width=4),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  adam = dict(name="adam", b1=0.5)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=10_000,
      batch_size=64,
      system=dict(name="gan", z_dim=100),
      dataset=dict(name="tfds", builder="mnist"),
      generator=dict(name="dcgan", width=64, output_bias=True),
      discriminator=dict(name="dcgan", width=64, norm="none"),
      loss=dict(name="non_saturating"),
      g_opt=adam | dict(learning_rate=5e-4),
      d_opt=adam | dict(learning_rate=1e-4),
      ema=dict(decay=0.999),
      evals=dict(classes=dict(every=2000), frechet=dict(every=2000)),
      samples=dict(every=500, num=100),
      checkpoint=dict(every=2000, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
