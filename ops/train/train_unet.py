"""The denoiser and the image encoder.  train_unet.py WORK

SVD's preconditioning and v-prediction.  The noise of a training clip is not drawn apart
from its motion: the means of its channels 0, 1 and 2 are the three numbers that the motion was
made from.  Each noise is still exactly normal, and a probability flow may be learned from any
such coupling; but now a single step from sigma_max has one right answer and not the average of
all directions.  The distance is pseudo-Huber, as in OSV's first stage, without its discriminator;
most of a batch is at sigma_max, the rest spread down to sigma_low.
"""
import math
import pathlib
import random

import torch
from diffusers import UNetSpatioTemporalConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import common

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def build(cfg):
    u, latents = cfg["unet"], cfg["vae"]["latents"]
    n = len(u["channels"])
    unet = UNetSpatioTemporalConditionModel(
        in_channels=2 * latents, out_channels=latents, sample_size=cfg["vae"]["size"] // 8,
        num_frames=cfg["frames"], block_out_channels=tuple(u["channels"]), layers_per_block=1,
        num_attention_heads=tuple(u["heads"]), cross_attention_dim=u["cross"],
        addition_time_embed_dim=u["time"], projection_class_embeddings_input_dim=3 * u["time"],
        down_block_types=("DownBlockSpatioTemporal",) * (n - 1)
        + ("CrossAttnDownBlockSpatioTemporal",),
        up_block_types=("CrossAttnUpBlockSpatioTemporal",)
        + ("UpBlockSpatioTemporal",) * (n - 1))
    c = cfg["clip"]
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=c["hidden"], intermediate_size=4 * c["hidden"], projection_dim=u["cross"],
        num_hidden_layers=c["layers"], num_attention_heads=c["heads"], image_size=c["image"],
        patch_size=c["patch"], hidden_act="gelu"))
    return unet, clip


CARRY = 1e-4        # the carried latents' scale: var << 1e-5, so the last norm is linear for them


@torch.no_grad()
def pin(unet, latents):
    """Hold the weights that carry the photograph's latents unchanged to the last block."""
    n = 2 * latents
    last = unet.up_blocks[-1].resnets[-1]
    unet.conv_in.weight[:n] = 0
    unet.conv_in.bias[:n] = 0
    for i in range(latents):
        unet.conv_in.weight[2 * i, latents + i, 1, 1] = CARRY
        unet.conv_in.weight[2 * i + 1, latents + i, 1, 1] = -CARRY
    for conv in (last.spatial_res_block.conv2, last.temporal_res_block.conv2,
                 last.spatial_res_block.conv_shortcut):
        conv.weight[:n] = 0
        conv.bias[:n] = 0
    width = last.spatial_res_block.conv_shortcut.weight.shape[0]
    for i in range(n):
        last.spatial_res_block.conv_shortcut.weight[i, width + i] = 1


@torch.no_grad()
def start(unet, latents):
    """Before any training: every frame is the photograph, F = -latents."""
    pin(unet, latents)
    unet.conv_norm_out.weight[:2 * latents] = math.sqrt(unet.conv_norm_out.eps) / CARRY
    unet.conv_out.weight.zero_()
    unet.conv_out.bias.zero_()
    for i in range(latents):
        unet.conv_out.weight[i, 2 * i, 1, 1] = -1
        unet.conv_out.weight[i, 2 * i + 1, 1, 1] = 1


def couple(noise, u):
    """Noise [B, F, C, h, w] whose channels 0..2 have the means that u [B, 3] asks for."""
    root = math.sqrt(noise[0, :, 0].numel())
    have = noise[:, :, :3].mean((1, 3, 4)) * root
    noise[:, :, :3] += ((u - have) / root).view(-1, 1, 3, 1, 1)
    return noise


def denoise(unet, x, sigma, cond, embed, ids):
    """D(x; sigma) with SVD's preconditioning; cond [B, C, h, w] goes to every frame."""
    s = sigma.view(-1, 1, 1, 1, 1)
    inp = torch.cat([x / (s * s + 1).sqrt(), cond[:, None].expand_as(x)], 2)
    with torch.autocast("cpu", torch.bfloat16):
        f = unet(inp, 0.25 * sigma.log(), embed, ids).sample.float()
    return x / (s * s + 1) - f * s / (s * s + 1).sqrt()


class Pool:
    """The shards there are; sees new ones every 100 batches."""

    def __init__(self, folder):
        self.folder, self.names, self.data, self.n = pathlib.Path(folder), set(), {}, 0

    def batch(self, n):
        if self.n % 100 == 0:
            for p in sorted(self.folder.glob("*.pt")):
                if p.name not in self.names:
                    self.names.add(p.name)
                    for k, v in torch.load(p, weights_only=True).items():
                        self.data.setdefault(k, []).append(v)
        self.n += 1
        shard = [random.randrange(len(self.names)) for _ in range(n)]
        row = [random.randrange(len(self.data["z"][0])) for _ in range(n)]
        return {k: torch.stack([v[s][r] for s, r in zip(shard, row)]).float()
                for k, v in self.data.items()}


def inputs(clip, b, cfg):
    """cond, embed, ids and latents of a batch; a twentieth loses its picture, for guidance."""
    n = len(b["z"])
    keep = (torch.rand(n) >= 0.05).float()
    pixels = ((b["clip"][:, 0] + 1) / 2 - MEAN) / STD
    embed = clip(pixels).image_embeds[:, None] * keep.view(-1, 1, 1)
    ids = torch.stack([torch.randint(1, 25, (n,)).float(), b["bucket"], torch.full((n,), 0.02)], 1)
    return b["cond"][:, 0] * keep.view(-1, 1, 1, 1), embed, ids


def main():
    args = common.arguments(__doc__)
    cfg = args.cfg
    t = cfg["denoiser"]
    torch.manual_seed(cfg["seed"] + 1)
    unet, clip = build(cfg)
    print("parameters", sum(p.numel() for p in unet.parameters()),
          sum(p.numel() for p in clip.parameters()), flush=True)
    start(unet, cfg["vae"]["latents"])
    common.speed_up(unet)
    both = torch.nn.ModuleDict({"unet": unet, "clip": clip})
    opt = torch.optim.AdamW(both.parameters(), t["rate"], betas=(0.9, 0.98), weight_decay=1e-3)
    ema = common.Ema(both, 0.99)
    stage = common.Stage(args.work, "denoiser", {"net": both, "opt": opt, "ema": ema})
    random.seed(cfg["seed"] + stage.i)
    torch.manual_seed(cfg["seed"] + 2 + stage.i)
    pool, n = Pool(f"{args.work}/pool"), t["batch"]
    high = cfg["sigma"][1]
    for _, rate in stage.steps(t["steps"]):
        for group in opt.param_groups:
            group["lr"] = t["rate"] * rate
        b = pool.batch(n)
        x0 = b["z"]
        sigma = t["sigma_low"] * (high / t["sigma_low"]) ** torch.rand(n)
        top = torch.arange(n) < round(n * t["top"])
        sigma[top] = high
        cond, embed, ids = inputs(clip, b, cfg)
        noise = couple(torch.randn_like(x0), b["u"])
        d = denoise(unet, x0 + sigma.view(-1, 1, 1, 1, 1) * noise, sigma, cond, embed, ids)
        err = (d - x0).square()
        one = (err.mean(2) + 1e-3).sqrt().mean((1, 2, 3))
        still = ((b["cond"][:, 0, None] - x0).square().mean(2) + 1e-3).sqrt().mean()
        loss = one.mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        opt.step()
        pin(unet, cfg["vae"]["latents"])
        ema.update(both)
        stage.note((loss / still).detach())     # 1: no better than a still picture


if __name__ == "__main__":
    main()
