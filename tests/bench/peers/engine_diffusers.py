#!/usr/bin/env python3
"""The peer of bench_engine: the same stages of the same clip, by diffusers on PyTorch.

    python engine_diffusers.py MODEL [--size 14x448x256] [--dtype bfloat16] [--ours FILE]

Runs the modules of StableVideoDiffusionPipeline in inference mode on the CPU, with channels_last
weights and PyTorch's fused attention; the VAE encodes in float32, as the pipeline does.  Each
stage is run once to warm up and --runs times for its best time, so the peer is measured kindly.
--ours names the JSON lines of bench_engine; then each line ends with how much faster that was.
"""
import argparse
import json
import resource
import time

import torch
from diffusers import StableVideoDiffusionPipeline


def best(runs, work):
    """Seconds of the best of some runs, after one that does not count."""
    times = []
    for _ in range(runs + 1):
        start = time.monotonic()
        work()
        times.append(time.monotonic() - start)
    return min(times[1:])


def stages(pipe, frames, width, height, dtype):
    """name -> function that does the work of one stage of a one-step clip."""
    h, w = height // 8, width // 8
    latent = pipe.vae.config.latent_channels
    pixels = torch.randn(1, 3, 224, 224, dtype=dtype)
    image = torch.randn(1, 3, height, width)
    x = torch.randn(1, frames, 2 * latent, h, w, dtype=dtype)
    embedding = torch.randn(1, 1, pipe.unet.config.cross_attention_dim, dtype=dtype)
    ids = torch.tensor([[6, 127, 0.02]], dtype=dtype)
    z = torch.randn(frames, latent, h, w, dtype=dtype)
    encoder = torch.nn.Module()
    encoder.vae = pipe.vae.__class__.from_config(pipe.vae.config).eval()
    encoder.vae.load_state_dict({k: v.float() for k, v in pipe.vae.state_dict().items()})
    return {
        "clip": lambda: pipe.image_encoder(pixels),
        "vae_encode": lambda: encoder.vae.encode(image),
        "unet": lambda: pipe.unet(x, torch.tensor(1.6378, dtype=dtype), embedding, ids),
        "vae_decode": lambda: pipe.vae.decode(z, num_frames=frames),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--size", default="14x448x256")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--ours", type=argparse.FileType())
    args = parser.parse_args()
    frames, width, height = map(int, args.size.split("x"))
    dtype = getattr(torch, args.dtype)
    ours = {}
    for line in args.ours or ():
        row = json.loads(line)
        ours[row["name"]] = row["value"]
    pipe = StableVideoDiffusionPipeline.from_pretrained(args.model, torch_dtype=dtype)
    for part in (pipe.unet, pipe.vae, pipe.image_encoder):
        part.eval()
        for module in part.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.to(memory_format=torch.channels_last)
    total = 0.0
    with torch.inference_mode():
        for name, work in stages(pipe, frames, width, height, dtype).items():
            seconds = best(args.runs, work)
            total += seconds
            mine = ours.get(f"engine.{name}.seconds")
            ratio = f"   ours {mine:.2f} s, {seconds / mine:.2f} x" if mine else ""
            print(f"diffusers.{name:12} {seconds:9.2f} s{ratio}", flush=True)
    mine = ours.get("engine.all.seconds")
    ratio = f"   ours {mine:.2f} s, {total / mine:.2f} x" if mine else ""
    print(f"diffusers.{'all':12} {total:9.2f} s{ratio}")
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"diffusers.peak_resident {rss:.0f} MiB   torch {torch.__version__}, {args.dtype}, "
          f"{torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
