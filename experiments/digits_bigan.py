"""A GAN that infers: BiGAN on scikit-learn's digits, 8x8 as they come.

Donahue et al. 2017 (https://arxiv.org/abs/1605.09782), section 4.1, made small:
fully connected networks, uniform z, and D sees pixels and z as one vector.

    ganjax train --config digits_bigan

Expected (3 seeds): 10 of 10 classes, a Fréchet distance of 3.7 in the features
of their classifier (held-out digits 1.4, noise 152), reconstructions of 15 dB,
in two minutes on one core.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  generator=dict(hidden=(8,)),
  encoder=dict(hidden=(8,)),
  discriminator=dict(hidden=(8,)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  adam = dict(name="adam", b1=0.5)
  drop = dict(input_dropout=0.0, dropout=0.2)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=6000,
      batch_size=100,
      scaling="unit",
      system=dict(name="bigan", z_dim=8),
      dataset=dict(name="digits", size=8),
      generator=dict(name="mlp", hidden=(256, 256)),
      encoder=dict(name="mlp", hidden=(256, 256)),
      discriminator=drop | dict(name="mlp", hidden=(128, 128), init_range=0.05),
      loss=dict(name="non_saturating"),
      g_opt=adam | dict(learning_rate=1e-3),
      d_opt=adam | dict(learning_rate=5e-4),
      ema=dict(decay=0.995),
      evals=dict(
        classes=dict(every=1000),
        frechet=dict(every=1000),
        reconstruction=dict(every=1000),
      ),
      samples=dict(every=500, num=64),
      checkpoint=dict(every=1000, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
