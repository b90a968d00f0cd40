"""DCGAN on scikit-learn's 1,797 handwritten digits: the default.

Radford et al. 2016 (https://arxiv.org/abs/1511.06434), small enough for two
CPU cores and no download. The digits are scaled from 8x8 to 16x16 pixels. The
discriminator, slowed since it would soon know 1,437 images by heart, goes
without batch norm, which would hide from it that fakes are brighter as a whole.

    python -m ganjax.main

Expected: readable digits, 10 of 10 classes, a Fréchet distance of about 6 in
the features of the digits' classifier (held-out digits 2.7, noise 400), in
under two minutes on two cores.
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
      num_steps=5000,
      batch_size=64,
      log_every=50,
      system=dict(name="gan", z_dim=64),
      dataset=dict(name="digits", size=16),
      generator=dict(name="dcgan", width=64, output_bias=True),
      discriminator=dict(name="dcgan", width=32, norm="none"),
      loss=dict(name="non_saturating"),
      g_opt=adam | dict(learning_rate=5e-4),
      d_opt=adam | dict(learning_rate=1e-4),
      ema=dict(decay=0.999),
      evals=dict(classes=dict(every=500), frechet=dict(every=500)),
      samples=dict(every=250, num=64),
      checkpoint=dict(every=500, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
