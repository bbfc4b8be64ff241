#!/usr/bin/env python3
"""Write the two tiny random checkpoints, tests/fixtures/tiny-a and tests/fixtures/tiny-b.

Each is a complete diffusers folder of a StableVideoDiffusionPipeline: the real classes, small
sizes, random weights.  The weights come from one seeded generator per checkpoint, in the sorted
order of the tensor names, are rounded to float16 and stored so; everyone who reads them computes
in float32 with exactly these values.

The two differ in everything that a config can say (levels, channels, heads, layers per block,
which blocks attend, transformer depth, latent channels, VAE scale, CLIP geometry and activation,
normalisation constants, noise range), so that code that has a number of the full-size model
wired in cannot match both.
"""
import argparse
import json
import math
import pathlib
import shutil

import torch
from diffusers import (AutoencoderKLTemporalDecoder, EulerDiscreteScheduler,
                       StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

DOWN = {"attend": "CrossAttnDownBlockSpatioTemporal", "plain": "DownBlockSpatioTemporal"}
UP = {"attend": "CrossAttnUpBlockSpatioTemporal", "plain": "UpBlockSpatioTemporal"}

CHECKPOINTS = {
    "tiny-a": {
        "seed": 20240917,
        "blocks": ["attend", "plain", "plain"],
        "unet": dict(in_channels=8, out_channels=4, sample_size=16, num_frames=4,
                     block_out_channels=(32, 64, 32), layers_per_block=1,
                     num_attention_heads=(2, 4, 4), transformer_layers_per_block=1,
                     cross_attention_dim=32, addition_time_embed_dim=32,
                     projection_class_embeddings_input_dim=96),
        "vae": dict(block_out_channels=(32, 32, 32, 32), layers_per_block=2, latent_channels=4,
                    sample_size=128, scaling_factor=0.18215),
        "clip": dict(hidden_size=32, intermediate_size=80, projection_dim=32, num_hidden_layers=2,
                     num_attention_heads=2, image_size=224, patch_size=14, hidden_act="gelu",
                     layer_norm_eps=1e-5),
        "norm": dict(image_mean=[0.48145466, 0.4578275, 0.40821073],
                     image_std=[0.26862954, 0.26130258, 0.27577711]),
        "sigma": (0.002, 700.0),
    },
    "tiny-b": {
        "seed": 20250403,
        "blocks": ["plain", "plain"],
        "unet": dict(in_channels=16, out_channels=8, sample_size=12, num_frames=3,
                     block_out_channels=(32, 32), layers_per_block=2,
                     num_attention_heads=(4, 1), transformer_layers_per_block=2,
                     cross_attention_dim=24, addition_time_embed_dim=20,
                     projection_class_embeddings_input_dim=60),
        "vae": dict(block_out_channels=(32, 64, 32), layers_per_block=1, latent_channels=8,
                    sample_size=48, scaling_factor=0.35),
        "clip": dict(hidden_size=24, intermediate_size=56, projection_dim=24, num_hidden_layers=3,
                     num_attention_heads=3, image_size=96, patch_size=12, hidden_act="quick_gelu",
                     layer_norm_eps=1e-6),
        "norm": dict(image_mean=[0.5, 0.45, 0.4], image_std=[0.25, 0.3, 0.35]),
        "sigma": (0.01, 80.0),
    },
}

# Gains on top of the variance-preserving 1/sqrt(fan_in); the first match counts, 1.0 if none.
# They keep every activation near unit size: queries and keys larger, so that a softmax is neither
# flat nor a hard maximum; what writes to a residual stream smaller, so that the stream does not
# grow; the time embedding larger, so that it shows; pixels neither saturated nor grey.
GAINS = (
    ("decoder.conv_out.", 0.6), ("time_conv_out.", 1.2), ("unet.conv_out.", 1.6),
    ("to_q.", 1.6), ("to_k.", 1.6), ("q_proj.", 1.6), ("k_proj.", 1.6), ("time_emb_proj.", 2.5),
    ("time_embedding.", 1.8), ("add_embedding.", 1.8), ("time_pos_embed.", 1.4),
    ("to_out.", 0.8), ("ff.net.2.", 0.8), ("ff_in.net.2.", 0.8), ("proj_out.", 0.8),
    (".conv1.", 1.4), (".conv2.", 1.0), ("encoder.conv_out.", 1.4),
)


def fill(name, tensor, gen, scaling_factor):
    """One tensor's values: float32, not yet rounded."""
    noise = torch.randn(tensor.shape, generator=gen)
    if name.endswith("mix_factor"):                 # sigmoid between about 0.12 and 0.88
        return noise.clamp(-2, 2)
    if name.endswith("embedding") or "position_embedding" in name:
        return 0.5 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    if tensor.ndim == 1:                            # the gamma of a norm
        return 1 + 0.2 * noise
    gain = next((g for part, g in GAINS if part in name), 1.0)
    if name == "vae.decoder.conv_in.weight":        # its input is latents / scaling_factor
        gain = scaling_factor
    return noise * gain / math.sqrt(tensor[0].numel())


def randomise(modules, seed, scaling_factor):
    """Fill all weights of all modules from one generator, on the float16 grid."""
    gen = torch.Generator("cpu").manual_seed(seed)
    for part, module in modules.items():
        state = module.state_dict()
        for name in sorted(state):
            value = fill(f"{part}.{name}", state[name], gen, scaling_factor)
            state[name].copy_(value.half().float())
        module.eval()


def build(spec):
    """The pipeline of one CHECKPOINTS entry, float32, random weights."""
    blocks = spec["blocks"]
    unet = UNetSpatioTemporalConditionModel(
        down_block_types=tuple(DOWN[b] for b in blocks),
        up_block_types=tuple(UP[b] for b in reversed(blocks)), **spec["unet"])
    levels = len(spec["vae"]["block_out_channels"])
    vae = AutoencoderKLTemporalDecoder(down_block_types=("DownEncoderBlock2D",) * levels,
                                       **spec["vae"])
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**spec["clip"]))
    size = spec["clip"]["image_size"]
    extractor = CLIPImageProcessor(size={"shortest_edge": size},
                                   crop_size={"height": size, "width": size}, **spec["norm"])
    scheduler = EulerDiscreteScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012,
        beta_schedule="scaled_linear", prediction_type="v_prediction", use_karras_sigmas=True,
        sigma_min=spec["sigma"][0], sigma_max=spec["sigma"][1], timestep_spacing="leading",
        timestep_type="continuous", steps_offset=1, interpolation_type="linear")
    randomise({"unet": unet, "vae": vae, "image_encoder": clip}, spec["seed"],
              spec["vae"]["scaling_factor"])
    return StableVideoDiffusionPipeline(vae=vae, image_encoder=clip, unet=unet,
                                        scheduler=scheduler, feature_extractor=extractor)


def main():
    root = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=root, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(2)
    for name, spec in CHECKPOINTS.items():
        folder = args.out / name
        shutil.rmtree(folder, ignore_errors=True)
        pipe = build(spec)
        for part in (pipe.unet, pipe.vae, pipe.image_encoder):
            part.half()
        pipe.save_pretrained(folder, safe_serialization=True)
        sizes = {p.relative_to(folder).as_posix(): p.stat().st_size
                 for p in sorted(folder.rglob("*")) if p.is_file()}
        print(name, json.dumps(sizes, indent=1), sum(sizes.values()), "bytes")


if __name__ == "__main__":
    main()
