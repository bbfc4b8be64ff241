"""Measure a checkpoint on held-out photographs.  measure.py WORK FOLDER --photos FOLDER...

Prints JSON: PSNR of the VAE and of frame 0; how far a clip moves, in pixels at its last frame, for
a small and a large motion_bucket_id; how many of 4 quadrants of direction 12 seeds reach.
"""
import json
import math

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    _resize_with_antialiasing)
from transformers import CLIPVisionModelWithProjection

import common
import photos
import train_unet


def psnr(a, b):
    return float(10 * torch.log10(4 / (a.clamp(-1, 1) - b).square().mean((-3, -2, -1))).mean())


def shift(a, b):
    """The translation (x, y) in pixels from grey picture a to b, by phase correlation."""
    window = torch.hann_window(a.shape[-1])
    fa, fb = (torch.fft.fft2((p.mean(0) - p.mean()) * window * window[:, None]) for p in (a, b))
    cross = fb * fa.conj()
    peak = torch.fft.ifft2(cross / (cross.abs() + 1e-3 * cross.abs().mean())).real
    n = a.shape[-1]
    at = int(peak.argmax())
    y, x = at // n, at % n
    return (x if x < n / 2 else x - n), (y if y < n / 2 else y - n)


class Model:
    def __init__(self, folder):
        self.vae = AutoencoderKLTemporalDecoder.from_pretrained(folder, subfolder="vae").float()
        self.unet = UNetSpatioTemporalConditionModel.from_pretrained(
            folder, subfolder="unet").float()
        self.clip = CLIPVisionModelWithProjection.from_pretrained(
            folder, subfolder="image_encoder").float()

    def frames(self, z):
        return self.vae.decode(z / self.vae.config.scaling_factor, num_frames=len(z)).sample

    def clip_of(self, cfg, x, seed, bucket):
        """One step from sigma_max: [frames, 3, h, w] of picture x [1, 3, h, w]."""
        gen = torch.Generator().manual_seed(seed)
        noisy = x + 0.02 * torch.randn(x.shape, generator=gen)
        cond = self.vae.encode(noisy).latent_dist.mode()
        pixels = (_resize_with_antialiasing(x, (cfg["clip"]["image"],) * 2) + 1) / 2
        embed = self.clip((pixels - train_unet.MEAN) / train_unet.STD).image_embeds[:, None]
        sigma = torch.tensor([float(cfg["sigma"][1])])
        noise = torch.randn((1, cfg["frames"]) + cond.shape[1:], generator=gen)
        ids = torch.tensor([[6.0, float(bucket), 0.02]])
        z = train_unet.denoise(self.unet, noise * sigma, sigma, cond, embed, ids)
        return self.frames(z[0])


@torch.no_grad()
def main():
    args = common.arguments(__doc__, "folder")
    cfg, model = args.cfg, Model(args.folder)
    held = photos.Crops(photos.load(photos.HELD, args.photos), 11).stills(12, cfg["vae"]["size"])
    out = {"vae_psnr_db": 0, "frame0_psnr_db": 0, "moved_px": {}, "quadrants": 0}
    vae = [psnr(model.frames(model.vae.encode(x[None]).latent_dist.mode())[0], x) for x in held]
    first, quadrants = [], set()
    for bucket in (40, 127, 240):
        moved = []
        for seed, x in enumerate(held):
            clip = model.clip_of(cfg, x[None], seed, bucket)
            first.append(psnr(clip[0], x))
            d = shift(clip[0], clip[-1])
            moved.append(math.hypot(*d))
            if d != (0, 0):
                quadrants.add((d[0] > 0, d[1] > 0))
        out["moved_px"][bucket] = round(sum(moved) / len(moved), 2)
    out["vae_psnr_db"] = round(sum(vae) / len(vae), 2)
    out["frame0_psnr_db"] = round(sum(first) / len(first), 2)
    out["quadrants"] = len(quadrants)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
