"""A fully connected GAN on scikit-learn's digits, 8x8 as they come.

The nets of 2014's MNIST (Goodfellow et al., https://arxiv.org/abs/1406.2661),
made small, with Adam in place of momentum and a slowed discriminator.

    ganjax train --config digits_mlp

Expected: digits of all 10 classes, a Fréchet distance of about 5 in the
features of their classifier (held-out digits 1.4, noise 152), in less than a
minute on two cores. With 2014's dropout of .2 / .5 it stays at 48.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  generator=dict(hidden=(8,)),
  discriminator=dict(hidden=(8,)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  adam = dict(name="adam", b1=0.5)
  drop = dict(input_dropout=0.0, dropout=0.3)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=10_000,
      batch_size=100,
      scaling="unit",
      system=dict(name="gan", z_dim=32, latent="uniform"),
      dataset=dict(name="digits", size=8),
      generator=dict(name="mlp", hidden=(256, 256)),
      discriminator=drop | dict(name="mlp", hidden=(64, 64), init_range=0.05),
      loss=dict(name="non_saturating"),
      g_opt=adam | dict(learning_rate=5e-4),
      d_opt=adam | dict(learning_rate=1e-4),
      ema=dict(decay=0.999),
      evals=dict(classes=dict(every=1000), frechet=dict(every=1000)),
      samples=dict(every=500, num=64),
      checkpoint=dict(every=1000, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
