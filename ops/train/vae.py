"""The VAE: an encoder in closed form, a decoder that is trained.

The encoder's weights are computed, not trained: it gives each 8x8 patch's coordinates along the
principal axes of photographs, partly whitened.  Three strided convolutions gather the patch, the
residual branches are zero, and the last norm is linear because its input is far smaller than its
epsilon; SiLU(a) - SiLU(-a) = a does the rest.  So latents are known before any training, and
the denoiser trains while the decoder does.
"""
import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder

SMALL = 3e-5        # z * SMALL goes into the last norm: var << 1e-6, so it multiplies by 1000


def axes(crops, latents, whiten, n=500, size=128):
    """(mean [192], basis [latents, 192]): z = basis @ (patch - mean), patch as (channel, y, x)."""
    x = crops.stills(n, size).unfold(2, 8, 8).unfold(3, 8, 8)
    p = x.permute(0, 2, 3, 1, 4, 5).reshape(-1, 192).double()
    p = torch.cat([p, -p])                              # symmetric: the mean is zero
    w, u = torch.linalg.eigh(p.T @ p / len(p))
    w, u = w.flip(0)[:latents], u.flip(1)[:, :latents]
    scale = w.sqrt() ** -whiten
    scale = scale / (w * scale ** 2).mean().sqrt()      # mean square of all latents: 1
    return (u * scale).T.float()


def encode(basis, x):
    """What the encoder's mean will be: [n, 3, h, w] -> [n, latents, h/8, w/8]."""
    return F.conv2d(x, basis.view(-1, 3, 8, 8), stride=8)


def build(cfg):
    """An AutoencoderKLTemporalDecoder of the sizes in cfg."""
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=tuple(cfg["channels"]),
        layers_per_block=1, latent_channels=cfg["latents"], sample_size=cfg["size"],
        scaling_factor=1.0)


@torch.no_grad()
def write_encoder(vae, basis):
    """Put the closed form into vae.encoder and vae.quant_conv."""
    enc, latents = vae.encoder, basis.shape[0]
    for p in list(enc.parameters()) + list(vae.quant_conv.parameters()):
        p.zero_()
    for m in enc.modules():
        if isinstance(m, torch.nn.GroupNorm):
            m.weight.fill_(1)
    for i in range(3):
        enc.conv_in.weight[i, i, 1, 1] = 1
    for block in enc.down_blocks:
        for res in block.resnets:
            if res.conv_shortcut is not None:
                n = min(res.conv_shortcut.weight.shape[:2])
                res.conv_shortcut.weight[range(n), range(n)] = 1
    # 3 -> 12 -> 32 (the main axes of 4x4 patches) -> +-latents.  Channel of 2x2: 3 * (2y + x) + c.
    for y in range(2):
        for x in range(2):
            for c in range(3):
                enc.down_blocks[0].downsamplers[0].conv.weight[3 * (2 * y + x) + c, c, y, x] = 1
    inner = enc.down_blocks[1].downsamplers[0].conv.weight
    b = basis.view(latents, 3, 8, 8)
    quads = torch.stack([b[:, :, 4 * y:4 * y + 4, 4 * x:4 * x + 4].reshape(latents, 48)
                         for y in range(2) for x in range(2)])           # [4, latents, 48]
    u = torch.linalg.svd(quads.reshape(-1, 48), full_matrices=False)[2][:inner.shape[0]]
    u4 = u.view(-1, 3, 4, 4)
    for y in range(2):
        for x in range(2):
            for c in range(3):
                for yy in range(2):
                    for xx in range(2):
                        inner[:len(u), 3 * (2 * yy + xx) + c, y, x] = u4[:, c, 2 * y + yy,
                                                                         2 * x + xx]
    outer = enc.down_blocks[2].downsamplers[0].conv.weight
    for q in range(4):
        z = quads[q] @ u.T * SMALL
        outer[0:2 * latents:2, :len(u), q // 2, q % 2] = z
        outer[1:2 * latents:2, :len(u), q // 2, q % 2] = -z
    enc.conv_norm_out.weight.fill_(math.sqrt(enc.conv_norm_out.eps) / SMALL)
    for i in range(latents):
        enc.conv_out.weight[i, 2 * i, 1, 1] = 1
        enc.conv_out.weight[i, 2 * i + 1, 1, 1] = -1
        vae.quant_conv.weight[i, i, 0, 0] = 1
    vae.quant_conv.bias[latents:] = -20
