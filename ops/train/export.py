"""Write the checkpoint from what train.py left: export.py OUT FOLDER

FOLDER gets diffusers' layout in half precision with the OSV student as its UNet. With --others,
FOLDER/unet-teacher and FOLDER/unet-cd hold the other two.
"""
import argparse
import json
import pathlib

import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from transformers import CLIPImageProcessor

import nets

HERE = pathlib.Path(__file__).resolve().parent


def module(out, stage, name, module):
    state = torch.load(out / f"{stage}.pt", weights_only=True)[name]
    module.load_state_dict({k: v.float() for k, v in state.items()})
    return module.half()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--settings", type=pathlib.Path, default=HERE / "settings.json")
    parser.add_argument("--student", default="osv2", help="the stage that is the UNet")
    parser.add_argument("--others", action="store_true", help="the teacher and the CD student, too")
    args = parser.parse_args()
    cfg = json.loads(args.settings.read_text())
    vae = module(args.out, "vae", "vae", nets.vae(cfg))
    vae.register_to_config(**{"scaling_factor": json.loads(
        (args.out / "vae.json").read_text())["scaling_factor"]})
    size = cfg["clip"]["image"]
    pipe = StableVideoDiffusionPipeline(
        vae=vae, image_encoder=module(args.out, "teacher", "clip", nets.image_encoder(cfg)),
        unet=module(args.out, args.student, "unet", nets.unet(cfg)),
        scheduler=EulerDiscreteScheduler(
            num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012,
            beta_schedule="scaled_linear", prediction_type="v_prediction", use_karras_sigmas=True,
            sigma_min=cfg["sigma"][0], sigma_max=cfg["sigma"][1], timestep_spacing="leading",
            timestep_type="continuous", steps_offset=1, interpolation_type="linear"),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": size},
                                             crop_size={"height": size, "width": size}))
    pipe.save_pretrained(args.folder, safe_serialization=True)
    for stage in ("teacher", "cd") if args.others else ():
        module(args.out, stage, "unet", nets.unet(cfg)).save_pretrained(
            args.folder / f"unet-{stage}", safe_serialization=True)
    files = [p for p in args.folder.rglob("*") if p.is_file()]
    print(json.dumps({"folder": str(args.folder), "bytes": sum(p.stat().st_size for p in files)}))


if __name__ == "__main__":
    main()
