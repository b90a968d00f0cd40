"""A fully connected GAN on scikit-learn's digits, 8x8 as they come.

The nets of 2014's MNIST (Goodfellow et al., https://arxiv.org/abs/1406.2661),
made small, with Adam in place of momentum.

    python -m ganjax.main --config experiments/digits_mlp.py

Expected: rough but readable digits of all 10 classes in half a minute on two
cores.
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
  adam = dict(name="adam", learning_rate=3e-4, b1=0.5)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=6000,
      batch_size=100,
      scaling="unit",
      system=dict(name="gan", z_dim=32, latent="uniform"),
      dataset=dict(name="digits", size=8),
      generator=dict(name="mlp", hidden=(256, 256)),
      discriminator=dict(name="mlp", hidden=(64, 64), init_range=0.05),
      loss=dict(name="non_saturating"),
      g_opt=adam,
      d_opt=adam,
      ema=dict(decay=0.999),
      evals=dict(classes=dict(every=1000), frechet=dict(every=1000)),
      samples=dict(every=500, num=64),
      checkpoint=dict(every=1000, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
