#!/usr/bin/env python3
"""How far PyTorch's own 16 bits are from its float32, module by module, on the golden inputs.

    python tests/reference/bf16_error.py [GOLDEN...]

Each module of the checkpoint runs with weights and activations in bfloat16, then in float16, on the
input of tests/golden/GOLDEN.safetensors; printed is the relative L2 distance of its output from the
golden one. The engine must not be further away: the numbers are the bounds in tests/golden/golden.c.
"""
import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file

import reference

ROOT = pathlib.Path(__file__).resolve().parents[1]
CASES = ("tiny-a-consistency1", "tiny-a-odd-consistency4", "tiny-b-consistency1")


@torch.no_grad()
def measure(case, half):
    path = ROOT / "golden" / f"{case}.safetensors"
    with safe_open(path, "pt") as file:
        meta = file.metadata()
    t = load_file(path)

    def batch(x, rank):
        """x with ones in front up to rank, rounded."""
        return x[(None,) * (rank - x.ndim)].to(half)

    pipe = reference.load(ROOT / "fixtures" / meta["checkpoint"], half)
    runs = {
        "clip.image_embeds": lambda: pipe.image_encoder(
            batch(t["clip.pixel_values"], 4)).image_embeds,
        "vae.latents_mode": lambda: pipe.vae.encode(
            batch(t["vae.image"] + float(meta["noise_aug"]) * t["vae.noise"], 4)
        ).latent_dist.mode(),
        "unet.output": lambda: pipe.unet(
            batch(t["unet.sample"], 5), t["unet.timestep"].reshape(()),
            batch(t["clip.image_embeds"], 3), batch(t["unet.added_time_ids"], 2)).sample,
        "vae.decode_out": lambda: pipe.vae.decode(
            batch(t["vae.decode_in"], 4), num_frames=t["vae.decode_in"].shape[0]).sample,
    }
    for name, run in runs.items():
        if name not in t or (name.startswith("clip") and "clip.pixel_values" not in t):
            continue
        want, got = t[name], run()
        error = reference.relative_l2(got.float().reshape(want.shape), want)
        print(f"{case:26} {name:20} {str(half):15} {error:.3e}")


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        for half in (torch.bfloat16, torch.float16):
            measure(case, half)
