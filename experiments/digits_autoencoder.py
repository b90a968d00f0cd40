"""A denoising autoencoder on scikit-learn's digits: 16x16 pixels to 16 numbers.

Hinton & Salakhutdinov 2006 (https://doi.org/10.1126/science.1127647); Vincent
et al. 2008 (https://doi.org/10.1145/1390156.1390294): noise on the inputs keeps
1,437 digits from being learnt by heart.

    ganjax train --config digits_autoencoder

Expected: held-out digits come back with a PSNR of 25 dB and an SSIM of .97 (as
many principal components: 21 dB), in a minute on two cores. Samples are worse,
a Fréchet distance of about 60: an autoencoder has no prior over codes.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  encoder=dict(hidden=(8,)),
  decoder=dict(hidden=(8,)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  config = ml_collections.ConfigDict(
    dict(
      num_steps=5000,
      batch_size=64,
      log_every=50,
      scaling="unit",
      system=dict(name="autoencoder", z_dim=16, corruption=0.1),
      dataset=dict(name="digits", size=16),
      encoder=dict(name="mlp", hidden=(512, 256)),
      decoder=dict(name="mlp", hidden=(256, 512)),
      opt=dict(name="adam", learning_rate=1e-3),
      ema=dict(decay=0.999),
      evals=dict(reconstruction=dict(every=500), frechet=dict(every=0)),
      samples=dict(every=500, num=64),
      checkpoint=dict(every=500, keep=2, best="psnr"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
