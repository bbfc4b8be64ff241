"""Clips as latents, in shards that the denoiser's training picks up as they come.

train_pool.py WORK --photos FOLDER...   A shard has 64 clips: latents, conditioning latents of the
noised first frame, the first frame at the image encoder's size, motion and motion_bucket_id.
"""
import pathlib

import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    _resize_with_antialiasing)

import common
import photos
import vae as vaes


def motion(cfg, u, bucket):
    """Pan (pixels a frame) and zoom (log a frame) from three normal numbers and the bucket."""
    amount = bucket / 255
    pan = u[:2] / u[:2].norm() * cfg["motion"]["pan"] * amount
    return pan.tolist(), float(torch.tanh(u[2])) * cfg["motion"]["zoom"] * amount


def main():
    args = common.arguments(__doc__)
    cfg = args.cfg
    basis = torch.load(f"{args.work}/axes.pt", weights_only=True)
    folder = pathlib.Path(args.work) / "pool"
    folder.mkdir(exist_ok=True)
    first = len(list(folder.glob("*.pt")))
    torch.manual_seed(cfg["seed"] + first)
    crops = photos.Crops(photos.load(photos.TRAIN, args.photos), cfg["seed"] * 1000 + first)
    size, frames, lo_hi = cfg["vae"]["size"], cfg["frames"], cfg["motion"]["bucket"]
    for shard in range(first, cfg["pool"]):
        rows = {"z": [], "cond": [], "clip": [], "u": [], "bucket": []}
        for _ in range(64):
            u, bucket = torch.randn(3), float(torch.randint(lo_hi[0], lo_hi[1] + 1, ()))
            x = crops.clip(size, frames, *motion(cfg, u, bucket))
            rows["z"].append(vaes.encode(basis, x).half())
            rows["cond"].append(vaes.encode(basis, x[:1] + 0.02 * torch.randn(x[:1].shape)).half())
            rows["clip"].append(_resize_with_antialiasing(x[:1], (cfg["clip"]["image"],) * 2).half())
            rows["u"].append(u)
            rows["bucket"].append(torch.tensor(bucket))
        new = folder / f"{shard:05}.new"
        torch.save({k: torch.stack(r) for k, r in rows.items()}, new)
        new.rename(new.with_suffix(".pt"))


if __name__ == "__main__":
    main()
