"""Look at what train.py made: sheet.py PHOTOS OUT FILE.png [--stage osv2] [--device cuda]

A row for each held-out photograph: the photograph, the VAE's copy, then frames of one-step clips.
Prints the PSNR of the VAE and of frame 0, and how far the last frame is from the first.
"""
import argparse
import json
import pathlib

import torch
from PIL import Image

import nets
import train
from nets import denoise
from train import psnr


@torch.no_grad()
def draw(run, stage, file):
    """Write the sheet of a stage's student; a line of figures."""
    cfg, dev, n = run.cfg, run.device, 8
    vae = train.frozen(run.load("vae", "vae", nets.vae(cfg)))
    net = train.frozen(run.load(stage, "unet", nets.unet(cfg)))
    clip = train.frozen(run.load("teacher", "clip", nets.image_encoder(cfg)))
    scale = json.loads((run.out / "vae.json").read_text())["scaling_factor"]
    x, _ = run.held.clips(n, 1, cfg["size"])
    x = x[:, 0]

    def encode(y):
        return vae.quant_conv(vae.encoder(y)).chunk(2, 1)[0]

    copy = train.decode(vae, encode(x)[:, None])[:, 0]
    cond = encode(x + 0.02 * torch.randn_like(x))
    top = float(cfg["sigma"][1])
    noise = torch.randn(n, cfg["frames"], *cond.shape[1:], device=dev)
    buckets = torch.tensor([40.0, 127.0, 220.0, 220.0] * (n // 4), device=dev)
    full = torch.ones(n, device=dev)
    given = {"cond": cond, "embed": nets.embed(clip, x, cfg["clip"]["image"]),
             "ids": torch.stack([6 * full, buckets, 0.02 * full], 1)}
    z = denoise(net, noise * top, top * full, given)
    frames = train.decode(vae, z / scale)
    shown = [x, copy] + [frames[:, t] for t in (0, 3, 6, 9, 13)]
    sheet = torch.cat([torch.cat(list(column), 1) for column in shown], 2)
    pixels = ((sheet.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(file)
    apart = [round(psnr(frames[i, -1], frames[i, 0]), 1) for i in range(n)]
    return (f"{stage}: vae {psnr(copy, x):.2f} dB, frame 0 {psnr(frames[:, 0], x):.2f} dB, "
            f"last frame against frame 0 {apart} dB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos")
    parser.add_argument("out")
    parser.add_argument("file")
    parser.add_argument("--stage", default="osv2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--settings", default=train.HERE / "settings.json", type=pathlib.Path)
    parser.add_argument("--profile", default="cpu")
    args = parser.parse_args()
    print(draw(train.Run(args), args.stage, args.file))


if __name__ == "__main__":
    main()
