"""Write the checkpoint.  export.py WORK FOLDER

Half precision, diffusers' layout, the moving averages of the weights.
"""
import json
import pathlib

import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from transformers import CLIPImageProcessor

import common
import train_unet
import vae as vaes


def main():
    args = common.arguments(__doc__, "folder")
    cfg = args.cfg
    basis = torch.load(f"{args.work}/axes.pt", weights_only=True)
    vae, (unet, clip) = vaes.build(cfg["vae"]), train_unet.build(cfg)
    both = torch.nn.ModuleDict({"unet": unet, "clip": clip})
    for name, module in (("vae", vae.decoder), ("denoiser", both)):
        state = torch.load(f"{args.work}/{name}.pt", weights_only=True)["ema"]
        module.load_state_dict({k.removeprefix("mean."): v for k, v in state.items()
                                if k.startswith("mean.")})
    vaes.write_encoder(vae, basis)
    size = cfg["clip"]["image"]
    pipe = StableVideoDiffusionPipeline(
        vae=vae.half(), image_encoder=clip.half(), unet=unet.half(),
        scheduler=EulerDiscreteScheduler(
            num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012,
            beta_schedule="scaled_linear", prediction_type="v_prediction", use_karras_sigmas=True,
            sigma_min=cfg["sigma"][0], sigma_max=cfg["sigma"][1], timestep_spacing="leading",
            timestep_type="continuous", steps_offset=1, interpolation_type="linear"),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": size},
                                             crop_size={"height": size, "width": size}))
    pipe.save_pretrained(args.folder, safe_serialization=True)
    bytes_ = sum(p.stat().st_size for p in pathlib.Path(args.folder).rglob("*") if p.is_file())
    print(json.dumps({"folder": args.folder, "bytes": bytes_}))


if __name__ == "__main__":
    main()
