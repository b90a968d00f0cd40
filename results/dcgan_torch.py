"""PyTorch's DCGAN at 32 pixels: one update of D and one of G, timed.

    pip install torch==2.13.0
    python results/dcgan_torch.py --batch 64 --steps 15

The networks of `cifar_dcgan` in PyTorch's own layers: G 128 -> 512x4x4 ->
256x8x8 -> 128x16x16 -> 3x32x32, 4x4 transposed convolutions, batch norm, ReLU,
tanh; D 3 -> 64 -> 128 -> 256 -> 1, 4x4 convolutions of stride 2, batch norm but
in the first, leaky ReLU .2. Adam with 2e-4 and .5 / .999, non-saturating loss.
Prints `peer <ms a step>`: to be run in turn with `ganjax bench`, not
at the same time.
"""

import argparse
import statistics
import time

import torch
from torch import nn


def main():
  """Times the steps that the command line asks for."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--batch", type=int, default=64)
  parser.add_argument("--steps", type=int, default=15)
  parser.add_argument("--device", default="cpu")
  parser.add_argument("--compile", action="store_true")
  parser.add_argument("--bf16", action="store_true")
  args = parser.parse_args()
  torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
  torch.backends.cudnn.benchmark = True

  def up(i, o, s, p, last=False):
    layers = [nn.ConvTranspose2d(i, o, 4, s, p, bias=last)]
    return layers if last else layers + [nn.BatchNorm2d(o), nn.ReLU()]

  def down(i, o, norm=True):
    layers = [nn.Conv2d(i, o, 4, 2, 1, bias=not norm)]
    return layers + ([nn.BatchNorm2d(o)] if norm else []) + [nn.LeakyReLU(0.2)]

  g = nn.Sequential(
    *up(128, 512, 1, 0),
    *up(512, 256, 2, 1),
    *up(256, 128, 2, 1),
    *up(128, 3, 2, 1, True),
    nn.Tanh(),
  )
  d = nn.Sequential(
    *down(3, 64, False),
    *down(64, 128),
    *down(128, 256),
    nn.Conv2d(256, 1, 4),
    nn.Flatten(0),
  )
  g, d = (m.to(args.device, memory_format=torch.channels_last) for m in (g, d))
  g_opt, d_opt = (
    torch.optim.Adam(m.parameters(), 2e-4, betas=(0.5, 0.999)) for m in (g, d)
  )
  real = torch.randn(args.batch, 3, 32, 32, device=args.device).to(
    memory_format=torch.channels_last
  )
  noise = lambda: torch.randn(args.batch, 128, 1, 1, device=args.device)
  softplus = nn.functional.softplus
  cast = lambda: torch.autocast(args.device, torch.bfloat16, enabled=args.bf16)

  def step():
    with cast():
      with torch.no_grad():
        fake = g(noise())
      d_loss = softplus(-d(real)).mean() + softplus(d(fake)).mean()
    d_opt.zero_grad()
    d_loss.backward()
    d_opt.step()
    with cast():
      g_loss = softplus(-d(g(noise()))).mean()
    g_opt.zero_grad()
    g_loss.backward()
    g_opt.step()

  run = torch.compile(step) if args.compile else step
  sync = torch.cuda.synchronize if args.device == "cuda" else lambda: None
  for _ in range(3):
    run()
  sync()
  times = []
  for _ in range(args.steps):
    start = time.perf_counter()
    run()
    sync()
    times.append(time.perf_counter() - start)
  print(f"peer {1e3 * statistics.median(times):.2f}")


if __name__ == "__main__":
  main()
