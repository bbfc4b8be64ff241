#!/usr/bin/env python3
"""Compare a dump of onestep-worker with diffusers.

    compare.py DUMP.safetensors [--checkpoint DIR] [--image FILE]

Runs the job in the dump's metadata through diffusers in float32 on the CPU and prints the relative
L2 distance of every tensor that both have.  Exit 0: all within their bounds; 1: one is not, or the
dump lacks a tensor; 2: the comparison could not be made.

With noise=torch the noise is computed anew from the seed and compared too; with any other generator
the noises are taken from the dump, so that everything after them is still compared.
"""
import argparse
import pathlib
import sys
import urllib.parse

import PIL.Image
import safetensors
import torch

import reference

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"

# Bounds on the relative L2 distance.  Noise: the generators share integers and differ in the last
# digit of log, sin and cos.  Module: one module on the same input in float32, where diffusers itself
# is up to 3e-6 from float64.  Final: what has been through several modules and evaluations.
NOISE, MODULE, FINAL = 1e-6, 1e-5, 1e-4


class Unable(Exception):
    """The comparison cannot be made; the text says why."""


def bound(name, guided):
    """The bound for a tensor of the dump."""
    if "noise" in name:
        return NOISE
    first = ("unet_output.0.uncond", "unet_output.0.cond") if guided else ("unet_output.0",)
    return MODULE if name in ("image_embedding", "conditioning_latent", *first) else FINAL


def read(path):
    """{name: tensor}, metadata of a safetensors file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise Unable(f"{path}: {error}") from None


def find_checkpoint(option, meta):
    """The checkpoint folder: as told, as in the metadata, or of that name in tests/fixtures."""
    name = meta.get("checkpoint", "")
    for folder in [option] if option else [pathlib.Path(name), FIXTURES / name]:
        if (folder / "model_index.json").is_file():
            return folder
    raise Unable(f"{option or name or 'no checkpoint in the metadata'}: no model_index.json there; "
                 "give --checkpoint a diffusers folder")


def find_image(option, dump, meta):
    """The job's photograph: as told, the dump's own pixels, or the file in the metadata."""
    if option is None and "image" in dump:
        return PIL.Image.fromarray(dump["image"].round().to(torch.uint8).numpy())
    url = urllib.parse.urlsplit(meta.get("image", ""))
    if option is None and (url.scheme not in ("", "file") or not url.path):
        raise Unable(f"image {meta.get('image', '')!r}: not a local file; give --image FILE")
    path = option or pathlib.Path(urllib.parse.unquote(url.path))
    try:
        return reference.open_image(path)
    except OSError as error:
        raise Unable(f"{path}: {error}; give --image FILE") from None


def noises(dump, meta):
    """None when torch can draw the job's noise, else the noises of the dump."""
    if meta.get("noise") == "torch":
        return None
    given = {name: tensor for name, tensor in dump.items()
             if name in ("image_noise", "initial_noise") or name.startswith("step_noise.")}
    if "initial_noise" not in given:
        raise Unable(f"noise {meta.get('noise')!r} cannot be drawn here, and the dump has no "
                     "initial_noise")
    if "image_noise" not in given:
        if float(meta["noise_aug"]) != 0:
            raise Unable(f"noise {meta.get('noise')!r} cannot be drawn here, and the dump has no "
                         "image_noise; use --noise torch or --noise-aug 0")
        given["image_noise"] = torch.zeros(3, int(meta["height"]), int(meta["width"]))
    return given


def by_dump_names(got):
    """The record of reference.run under the names of a dump."""
    out = {name: tensor for name, tensor in got.items()
           if name.startswith(("unet_output.", "latents.", "step_noise."))
           or name in ("image_embedding", "initial_noise", "final_latents", "frames")}
    out["conditioning_latent"] = got["conditioning_latent"][0]
    out["image_noise"] = got["vae.noise"][0]
    return out


def report(dump, want, guided):
    """Print a line per tensor; returns how many are wrong."""
    wrong = 0
    for name in sorted(set(dump) & set(want)):
        error, limit = reference.relative_l2(dump[name], want[name]), bound(name, guided)
        if want[name].norm() == 0:                  # no noise was asked for: nothing to divide by
            error = (dump[name] - want[name]).norm().item()
        good = error <= limit                       # false for NaN
        wrong += not good
        shape = "x".join(map(str, dump[name].shape))
        print(f"{'ok  ' if good else 'FAIL'} {name:24} {shape:>16}  {error:9.2e}  <= {limit:.0e}")
    optional = "latents.", "step_noise.", "image_noise"
    for name in sorted(set(want) - set(dump)):
        if not name.startswith(optional):
            print(f"FAIL {name:24} not in the dump")
            wrong += 1
    for name in sorted(set(dump) - set(want)):
        if name.startswith(("unet_output.", *optional)):
            print(f"FAIL {name:24} not made by diffusers")
            wrong += 1
    return wrong


def compare(args):
    dump, meta = read(args.dump)
    missing = [name for name in ("width", "height", "frames", "steps", "sampler", "seed")
               if name not in meta]
    if missing:
        raise Unable(f"{args.dump}: no {', '.join(missing)} in the metadata; not a dump of "
                     "onestep-worker")
    job = reference.Job.from_metadata(meta)
    folder = find_checkpoint(args.checkpoint, meta)
    image = find_image(args.image, dump, meta)
    print(f"{args.dump} against diffusers on {folder}, image {image.width}x{image.height}")
    print(" ".join(f"{name}={value}" for name, value in job.metadata().items()))
    given = noises(dump, meta)
    if given:
        print("noise taken from the dump:", " ".join(sorted(given)))
    try:
        got = reference.run(reference.load(folder), job, image, given)
    except KeyError as error:
        raise Unable(error.args[0]) from None
    wrong = report(dump, by_dump_names(got), job.guidance_max > 1)
    print(f"{wrong} wrong" if wrong else "all within bounds")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dump", type=pathlib.Path, help="file written by onestep-worker --dump")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="diffusers folder; default: the "
                        "dump's own, also looked for in tests/fixtures")
    parser.add_argument("--image", type=pathlib.Path, help="the photograph; default: the dump's own")
    args = parser.parse_args()
    torch.set_num_threads(2)
    try:
        return compare(args)
    except Unable as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
