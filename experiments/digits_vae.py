"""Variational autoencoder on scikit-learn's digits, 8x8 as they come.

Kingma & Welling 2014 (https://arxiv.org/abs/1312.6114). Their grey pixels are
no coins: with a Gaussian of deviation .15 z keeps nine units, with Bernoulli
pixels four, and samples are blurred (a Fréchet distance of 17 at step 4,000).

    ganjax train --config digits_vae

Expected: digits of all 10 classes, a Fréchet distance of about 7 in the
features of their classifier (held-out digits 1.4, noise 152), reconstructions
of held-out digits at 21 dB, in about two minutes on two cores.
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
  scored = dict(every=1000)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=8000,
      batch_size=100,
      scaling="unit",
      system=dict(name="vae", z_dim=16, likelihood="gaussian", sigma=0.15),
      dataset=dict(name="digits", size=8),
      encoder=dict(name="mlp", hidden=(256, 256)),
      decoder=dict(name="mlp", hidden=(256, 256), output="sigmoid"),
      opt=dict(name="adam", learning_rate=1e-3),
      ema=dict(decay=0.999),
      evals=dict(
        classes=scored,
        frechet=scored,
        log_likelihood=scored,
        reconstruction=scored,
      ),
      samples=dict(every=500, num=64),
      checkpoint=dict(every=1000, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
