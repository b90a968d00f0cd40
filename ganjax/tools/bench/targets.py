"""Accelerators that are not here, for which a step is compiled all the same.

The compilers of TPUs and GPUs run on a CPU: they take a description of the
chip. That of a TPU is in its compiler; that of a GPU is its data sheet, below.
"""

import importlib.util
import os
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from ganjax import errors

GIB = 2**30


class Chip(NamedTuple):
  """What a device of a kind can do at most, from its maker's data sheet.

  Attributes:
    memory: bytes that programs can use.
    flops: operations a second in matrix products of bfloat16 numbers, or of
      float16 where it has no others.
    bandwidth: bytes a second between its memory and its cores.
    clock: cycles a second of a TPU's core, to which its compiler's estimates
      refer; 0 for GPUs, whose compiler makes none.
    slice: the smallest set of TPUs that their compiler knows.
    sheet: of a GPU, in the words of XLA's `GpuDeviceInfoProto`.
  """

  memory: int
  flops: float
  bandwidth: float
  clock: float = 0.0
  slice: str = ""
  sheet: Mapping[str, float] = {}


# Of one device. A v4's and older chips have two cores, each a device of its
# own here, with half of the chip.
TPUS = {
  "v3": Chip(16 * GIB, 61.5e12, 450e9, 0.94e9, "2x2"),
  "v4": Chip(16 * GIB, 137.5e12, 614e9, 1.05e9, "2x2x1"),
  "v5e": Chip(int(15.75 * GIB), 197e12, 819e9, 1.5e9, "2x2"),
  "v5p": Chip(int(95.7 * GIB), 459e12, 2765e9, 1.75e9, "2x2x1"),
  "v6e": Chip(int(31.25 * GIB), 918e12, 1640e9, 1.75e9, "2x2"),
}

# What all of the GPUs below have in common.
_COMMON = dict(
  threads_per_block_limit=1024,
  threads_per_warp=32,
  shared_memory_per_block=48 * 2**10,
  block_dim_limit_x=2**31 - 1,
  block_dim_limit_y=2**16 - 1,
  block_dim_limit_z=2**16 - 1,
  registers_per_core_limit=2**16,
  registers_per_block_limit=2**16,
)


def _gpu(
  gib: float,
  flops: float,
  bandwidth: float,
  cores: int,
  fpus: int,
  threads: int,
  shared_kib: int,
  l2_mib: int,
  ghz: float,
) -> Chip:
  """Returns a GPU.

  Args:
    gib: memory, without what its error correction and its driver take.
    flops: see `Chip`.
    bandwidth: see `Chip`.
    cores: multiprocessors.
    fpus: of a core.
    threads: of a core.
    shared_kib: shared memory of a core.
    l2_mib: the cache of all cores.
    ghz: its highest clock.
  """
  shared = shared_kib * 2**10
  sheet = dict(
    core_count=cores,
    fpus_per_core=fpus,
    threads_per_core_limit=threads,
    shared_memory_per_core=shared,
    # A block gets all but 1 KiB, where it asks for it.
    shared_memory_per_block_optin=shared - 2**10,
    l2_cache_size=l2_mib * 2**20,
    clock_rate_ghz=ghz,
    memory_bandwidth=int(bandwidth),
    device_memory_size=int(gib * GIB),
    **_COMMON,
  )
  return Chip(int(gib * GIB), flops, bandwidth, sheet=sheet)


GPUS = {
  "t4": _gpu(14.6, 65e12, 320e9, 40, 64, 1024, 64, 4, 1.59),
  "l4": _gpu(22.0, 121e12, 300e9, 58, 128, 1536, 100, 48, 2.04),
  "a100": _gpu(79.3, 312e12, 2039e9, 108, 64, 2048, 164, 40, 1.41),
  "h100": _gpu(79.1, 989e12, 3352e9, 132, 128, 2048, 228, 50, 1.98),
}
# GPU -> its compute capability and its name.
_NAMES = {
  "t4": (7, 5, "Tesla T4"),
  "l4": (8, 9, "NVIDIA L4"),
  "a100": (8, 0, "NVIDIA A100-SXM4-80GB"),
  "h100": (9, 0, "NVIDIA H100 80GB HBM3"),
}

CHIPS = {**TPUS, **GPUS}


class Target(NamedTuple):
  """Devices for which a step is to be compiled.

  Attributes:
    name: as the user gave it.
    chip: what each of them is.
    devices: that can be compiled for, and do nothing else.
  """

  name: str
  chip: Chip
  devices: list[Any]


def find(name: str) -> Target:
  """Returns the devices of a name like "v5e", "v5e:4x4", "h100" or "h100:4".

  Raises:
    UserError: there is no such target, or its compiler is not installed.
  """
  kind, colon, size = name.partition(":")
  if kind not in CHIPS:
    raise errors.unknown("--target", kind, CHIPS)
  if colon and size in ("", "1"):  # One name for one thing.
    raise errors.UserError(f"--target {name} must be {kind}, for one of them")
  if kind in TPUS:
    return Target(name, CHIPS[kind], _tpus(name, kind, size))
  return Target(name, CHIPS[kind], _gpus(name, kind, size))


def _tpus(name: str, kind: str, size: str) -> list[Any]:
  """Returns the TPUs of a slice, or one of the smallest where no size is."""
  if size and not re.fullmatch(r"\d+(x\d+)+", size):
    raise errors.UserError(
      f"--target {name} must be like {kind} or {kind}:{CHIPS[kind].slice}"
    )
  _check_compiler("libtpu", "tpu")
  # Nothing outside is asked what machine this is, and nothing is said of it.
  os.environ["TPU_SKIP_MDS_QUERY"] = "1"
  # One process at a time is the rule for those that use the device.
  os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=f"{kind}:{size or CHIPS[kind].slice}"
    ).devices
  except (RuntimeError, ValueError) as error:
    raise errors.UserError(f"--target {name}: {error}") from error
  return list(found) if size else list(found)[:1]


def _gpus(name: str, kind: str, size: str) -> list[Any]:
  """Returns so many GPUs of a machine, one where no number is."""
  if size and not (size.isdecimal() and int(size)):
    raise errors.UserError(f"--target {name} must be like {kind} or {kind}:4")
  _check_compiler("jax_plugins.xla_cuda12", "cuda")
  major, minor, title = _NAMES[kind]
  lines = [f"  {key}: {value}" for key, value in CHIPS[kind].sheet.items()]
  lines.append(f"  cuda_compute_capability {{ major: {major} minor: {minor} }}")
  config = "\n".join(
    [
      "gpu_device_info {",
      *lines,
      "}",
      'platform_name: "CUDA"',
      "dnn_version_info { major: 9 minor: 8 }",
      f'device_description_str: "{title}"',
    ]
  )
  try:
    found = topologies.get_topology_desc(
      platform="cuda",
      topology_name=kind,
      target_config=config,
      topology=f"1x1x{size or 1}",
    ).devices
  except (RuntimeError, ValueError) as error:
    raise errors.UserError(f"--target {name}: {error}") from error
  return list(found)


def _check_compiler(module: str, extra: str) -> None:
  """Raises a `UserError` if a compiler is not installed."""
  try:
    found = importlib.util.find_spec(module)
  except ModuleNotFoundError:  # The package around it is not there.
    found = None
  if found is None:
    raise errors.UserError(
      f"the compiler for it is not installed: pip install 'ganjax[{extra}]', "
      f"or pip install -e '.[{extra}]' in a clone; no device is needed"
    )


def compiler_options(target: Target) -> dict[str, Any]:
  """Returns what a target's compiler must be told where no device is."""
  if target.devices[0].platform == "tpu":
    return {}
  # Otherwise it would time kernels on the device. Which products are better
  # made by Triton is known by timing alone: all are left to cuBLAS.
  return {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


def on_cpu() -> None:
  """Keeps JAX's own arrays on the CPU of a machine that has more."""
  jax.config.update("jax_platforms", "cpu")


def versions() -> dict[str, str]:
  """Returns package -> version of the compilers that are installed."""
  found = {}
  for name in ("libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin"):
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  return found
