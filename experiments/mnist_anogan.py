"""AnoGAN or f-AnoGAN on MNIST, 28x28 as it comes: a digit that is new.

Schlegl et al. 2017 (https://arxiv.org/abs/1703.05921), a DCGAN and a search in
its latent space; the argument `f_anogan` is Schlegl et al. 2019
(https://doi.org/10.1016/j.media.2019.01.010), a WGAN-GP and an encoder.

    pip install -e '.[tfds]' && ganjax train --config mnist_anogan
    pip install -e '.[tfds]' && ganjax train --config mnist_anogan:f_anogan

Expected (3 seeds): a ROC-AUC of .83 with --config.leave_out='(8,)' in about 15
minutes on one core, of f_anogan .85 in 11. 2,000 test images are scored. D's
own score: --config.system.name=gan, no argument.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  system=dict(search_steps=2),
  generator=dict(width=4),
  discriminator=dict(width=4),
  samples=dict(num=8),
)
F_ANOGAN = dict(
  num_steps=2000,
  d_steps_per_g_step=2,
  encoder=dict(name="dcgan", width=32, norm="none"),
  loss=dict(name="wasserstein"),
  penalties=dict(gradient_penalty=dict(weight=10.0, target=1.0)),
  opt=dict(name="adam", learning_rate=1e-3),
  d_opt=dict(learning_rate=5e-4),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `f_anogan`, or `smoke`: two steps of a tiny one."""
  adam = dict(name="adam", b1=0.5)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=4000,
      batch_size=64,
      leave_out=(0,),
      system=dict(name="anogan", z_dim=64, search_steps=200, search_rate=0.1),
      dataset=dict(name="tfds", builder="mnist"),
      generator=dict(name="dcgan", width=32, output_bias=True),
      discriminator=dict(name="dcgan", width=32, norm="none"),
      loss=dict(name="non_saturating"),
      g_opt=adam | dict(learning_rate=5e-4),
      d_opt=adam | dict(learning_rate=1e-4),
      ema=dict(decay=0.999),
      evals=dict(frechet=dict(every=1000), roc_auc=dict(num_samples=2000)),
      samples=dict(every=500, num=100),
      checkpoint=dict(every=1000, keep=2),
    )
  )
  if arg == "f_anogan":
    config.system = dict(name="f_anogan", z_dim=64)
  config.update({"": {}, "smoke": SMOKE, "f_anogan": F_ANOGAN}[arg])
  return config
