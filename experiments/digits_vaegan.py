"""VAE/GAN on scikit-learn's digits, scaled from 8x8 to 16x16 pixels.

Larsen et al. 2016 (https://arxiv.org/abs/1512.09300), made small. Batch norm in
D sets the size of its features; without it they are so small that the encoder
says nothing of an image. With a D of width 32 and gamma=.01 reconstructions
were nearer at step 2,000 (22.4 dB, not 19.2) and samples farther (a Fréchet
distance of 31, not 8).

    ganjax train --config digits_vaegan

Expected (3 seeds): Fréchet distances of 10 to 18 in the features of the digits'
classifier (held-out digits 2.7, noise 401), reconstructions of 19 to 20 dB, in
a minute or two on one core. In longer runs samples get worse.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  encoder=dict(width=4),
  decoder=dict(width=4),
  discriminator=dict(width=4),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  adam = dict(name="adam", b1=0.5)
  scored = dict(every=500)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=1500,
      batch_size=64,
      log_every=50,
      system=dict(name="vaegan", z_dim=16, gamma=0.003),
      dataset=dict(name="digits", size=16),
      encoder=dict(name="dcgan", width=32),
      decoder=dict(name="dcgan", width=32, output_bias=True),
      discriminator=dict(name="dcgan", width=16),
      loss=dict(name="non_saturating"),
      g_opt=adam | dict(learning_rate=5e-4),
      d_opt=adam | dict(learning_rate=1e-4),
      ema=dict(decay=0.999),
      evals=dict(classes=scored, frechet=scored, reconstruction=scored),
      samples=dict(every=250, num=64),
      checkpoint=dict(every=500, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
