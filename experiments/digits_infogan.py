"""InfoGAN on scikit-learn's digits, 8x8 as they come: digits without labels.

Chen et al. 2016 (https://arxiv.org/abs/1606.03657): a category of ten and two
continuous codes are part of z, and a network on D's features guesses them.

    ganjax train --config digits_infogan
    ganjax analyze WORKDIR --only traversal

Expected (3 seeds): the category of every sample is recognised, not always as a
digit of its own; a Fréchet distance of about 20 in the features of the digits'
classifier (held-out digits 1.4, noise 152), in a minute on one core.
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
      system=dict(name="infogan", z_dim=32, num_categories=10, num_codes=2),
      dataset=dict(name="digits", size=8),
      generator=dict(name="dcgan", width=64, output_bias=True),
      discriminator=dict(name="dcgan", width=32, norm="none"),
      loss=dict(name="non_saturating"),
      g_opt=adam | dict(learning_rate=1e-3),
      d_opt=adam | dict(learning_rate=2e-4),
      ema=dict(decay=0.999),
      evals=dict(classes=dict(every=500), frechet=dict(every=500)),
      samples=dict(every=250, num=64),
      checkpoint=dict(every=500, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
