"""AnoGAN on scikit-learn's digits, 8x8 as they come: it finds a new digit.

Schlegl et al. 2017 (https://arxiv.org/abs/1703.05921). A GAN never sees the
digit `leave_out`; what a search in its latent space cannot make is new. Theirs
is a DCGAN on patches of retinal scans; here the nets are fully connected.

    ganjax train --config digits_anogan

Expected (3 seeds): a ROC-AUC of .83 with --config.leave_out='(1,)', in a minute
or two on one core; D's own score, --config.system.name=gan: .76.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  system=dict(search_steps=2),
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
      leave_out=(0,),
      system=dict(name="anogan", z_dim=32, search_steps=200),
      dataset=dict(name="digits", size=8),
      generator=dict(name="mlp", hidden=(256, 256)),
      discriminator=drop | dict(name="mlp", hidden=(64, 64), init_range=0.05),
      loss=dict(name="non_saturating"),
      g_opt=adam | dict(learning_rate=5e-4),
      d_opt=adam | dict(learning_rate=1e-4),
      ema=dict(decay=0.999),
      evals=dict(frechet=dict(every=2000), roc_auc={}),
      samples=dict(every=500, num=64),
      checkpoint=dict(every=2000, keep=2),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
