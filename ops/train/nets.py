"""The modules: SVD's classes with few channels, SVD's preconditioning, and the critic."""
import functools

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch.nn.utils.parametrizations import spectral_norm
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@functools.cache
def channels(values, device):
    return torch.tensor(values, device=device).view(3, 1, 1)


def vae(cfg):
    """Its scaling_factor is set when it is trained: latents have deviation 1 behind it. CAREFUL: the
    norms have 32 groups; with 32 channels each would lose its mean, and pictures their brightness."""
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=tuple(cfg["vae"]["channels"]), layers_per_block=1,
        latent_channels=cfg["vae"]["latents"], sample_size=cfg["size"], scaling_factor=1.0)


def unet(cfg):
    u, latents = cfg["unet"], cfg["vae"]["latents"]
    channels = tuple(u["channels"])
    plain = len(channels) - 1
    return UNetSpatioTemporalConditionModel(
        in_channels=2 * latents, out_channels=latents, sample_size=cfg["size"] // 8,
        num_frames=cfg["frames"], block_out_channels=channels, layers_per_block=1,
        num_attention_heads=tuple(max(1, c // 32) for c in channels),
        cross_attention_dim=u["cross"], addition_time_embed_dim=u["time"],
        projection_class_embeddings_input_dim=3 * u["time"],
        down_block_types=("DownBlockSpatioTemporal",) * plain
        + ("CrossAttnDownBlockSpatioTemporal",),
        up_block_types=("CrossAttnUpBlockSpatioTemporal",) + ("UpBlockSpatioTemporal",) * plain)


def image_encoder(cfg):
    c = cfg["clip"]
    return CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=c["hidden"], intermediate_size=4 * c["hidden"],
        projection_dim=cfg["unet"]["cross"], num_hidden_layers=c["layers"],
        num_attention_heads=c["heads"], image_size=c["image"], patch_size=c["patch"],
        hidden_act="gelu"))


def fast_over_time(module):
    """Convolutions of kernel (3, 1, 1) run as the two-dimensional ones that they are."""
    def bind(conv):
        def forward(x):
            b, c, f, h, w = x.shape
            y = F.conv2d(x.reshape(b, c, f, h * w), conv.weight.squeeze(-1), conv.bias,
                         padding=(1, 0))
            return y.view(b, -1, f, h, w)
        conv.forward = forward
    for m in module.modules():
        if isinstance(m, nn.Conv3d) and m.kernel_size == (3, 1, 1):
            bind(m)
    return module


def embed(encoder, x, size):
    """Image embedding of pictures x [n, 3, h, w] in -1..1, as the pipeline prepares them but for
    its wider blur: [n, 1, cross]."""
    small = F.interpolate(x, (size, size), mode="bicubic", antialias=True)
    pixels = ((small + 1) / 2 - channels(MEAN, x.device)) / channels(STD, x.device)
    return encoder(pixels).image_embeds[:, None]


def view(sigma):
    return sigma.view(-1, 1, 1, 1, 1)


def denoise(net, x, sigma, given):
    """D(x; sigma) of SVD: c_skip x + c_out F(c_in x, ln(sigma) / 4). given: cond [n, C, h, w] for
    every frame, embed [n, 1, cross], ids [n, 3]."""
    s = view(sigma)
    both = torch.cat([x / (s * s + 1).sqrt(), given["cond"][:, None].expand_as(x)], 2)
    with torch.autocast(x.device.type, torch.bfloat16):
        f = net(both, 0.25 * sigma.log(), given["embed"], given["ids"]).sample
    return x / (s * s + 1) - f.float() * s / (s * s + 1).sqrt()


class Critic(nn.Module):
    """Real latents of a clip or not, given its first frame: a trunk in space and time, a head that
    looks at every frame and one that looks at the course of each. It never decodes."""

    def __init__(self, latents, width=64):
        super().__init__()
        def conv(i, o, stride):
            return spectral_norm(nn.Conv3d(i, o, 3, stride, 1))
        self.trunk = nn.ModuleList([conv(2 * latents, width, (1, 1, 1)),
                                    conv(width, 2 * width, (1, 2, 2)),
                                    conv(2 * width, 2 * width, (1, 2, 2))])
        self.space = nn.ModuleList([spectral_norm(nn.Conv2d(w, 1, 3, 1, 1))
                                    for w in (width, 2 * width, 2 * width)])
        self.time = nn.Sequential(spectral_norm(nn.Conv1d(2 * width, 2 * width, 5, 1, 2)),
                                  nn.LeakyReLU(0.2),
                                  spectral_norm(nn.Conv1d(2 * width, 1, 5, 1, 2)))
        self.amount = spectral_norm(nn.Linear(1, 2 * width))

    def forward(self, x, cond, bucket):
        """x [n, f, C, h, w] -> logits [n]."""
        n, f = x.shape[:2]
        h = torch.cat([x, x - cond[:, None]], 2).transpose(1, 2)
        out = 0
        for conv, head in zip(self.trunk, self.space):
            h = F.leaky_relu(conv(h), 0.2)
            flat = h.transpose(1, 2).flatten(0, 1)
            out = out + head(flat).mean((1, 2, 3)).view(n, f).mean(1)
        line = h.mean((3, 4))
        out = out + self.time(line).mean((1, 2))
        return out + (line.mean(2) * self.amount(bucket[:, None] / 127 - 1)).sum(1) * 0.1
