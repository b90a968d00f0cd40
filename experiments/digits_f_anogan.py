"""f-AnoGAN on scikit-learn's digits, 8x8 as they come: it finds a new digit.

Schlegl et al. 2019 (https://doi.org/10.1016/j.media.2019.01.010), made small:
a WGAN-GP of fully connected nets never sees the digit `leave_out`, and an
encoder learns beside it.

    ganjax train --config digits_f_anogan

Expected (3 seeds): a ROC-AUC of .91 with --config.leave_out='(1,)', in a minute
or two on one core.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  d_steps_per_g_step=2,
  generator=dict(hidden=(8,)),
  encoder=dict(hidden=(8,)),
  discriminator=dict(hidden=(8,)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  adam = dict(name="adam", b1=0.5, learning_rate=5e-4)
  critic = dict(name="mlp", hidden=(128, 128), init_range=0.05, pieces=1)
  critic |= dict(activation="leaky_relu", input_dropout=0.0, dropout=0.0)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=4000,
      batch_size=100,
      d_steps_per_g_step=3,
      scaling="unit",
      leave_out=(0,),
      system=dict(name="f_anogan", z_dim=32),
      dataset=dict(name="digits", size=8),
      generator=dict(name="mlp", hidden=(256, 256)),
      encoder=dict(name="mlp", hidden=(256, 256)),
      discriminator=critic,
      loss=dict(name="wasserstein"),
      penalties=dict(gradient_penalty=dict(weight=10.0, target=1.0)),
      g_opt=adam,
      d_opt=adam,
      opt=dict(name="adam", learning_rate=1e-3),
      ema=dict(decay=0.999),
      evals=dict(frechet=dict(every=1000), roc_auc={}, reconstruction={}),
      samples=dict(every=500, num=64),
      checkpoint=dict(every=1000, keep=2),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
