#!/usr/bin/env python3
"""Compare dumps of onestep-worker with diffusers.

    compare.py DUMP.safetensors... [--checkpoint DIR] [--image FILE] [--float64]

Runs the job in each dump's metadata through diffusers in float32 on the CPU and prints a line per
tensor: how far the two are apart, as relative L2 distance, and the bound on that.  Exit 0: all is
right; 1: something is not; 2: the comparison could not be made.

Two right programs differ by rounding, and rounding grows: where a job amplifies it, diffusers in
float32 is itself farther than the bound from what it computes in float64.  So when something is
over its bound the job runs once more in float64.  A tensor is then still right, and is marked
"rounding", when it is within the bound of float64, or within twice the distance at which diffusers'
own float32 is.

With noise=torch the noise is computed anew from the seed and compared too; with any other generator
the noises are taken from the dump, so that everything after them is still compared.
"""
import argparse
import dataclasses
import functools
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


# A checkpoint in both precisions, for all the dumps of one call.
load = functools.lru_cache(maxsize=2)(reference.load)


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


# What must be in a dump only if diffusers has made it, and may be missing all the same.
OPTIONAL = "latents.", "step_noise.", "image_noise"


# The table follows a job; evaluations and steps lie between the last two and the others.
ORDER = ("image_embedding", "image_noise", "conditioning_latent", "initial_noise", "",
         "final_latents", "frames")


def place(name):
    """Sort key of a tensor's name."""
    number = name.split(".")[1] if "." in name else "0"
    return ORDER.index(name if name in ORDER else ""), int(number), name


def distance(got, want):
    """Relative L2, or absolute where nothing was asked for (no noise) and a relative one has no
    meaning."""
    if got.shape == want.shape and want.norm() == 0:
        return got.double().norm().item()
    return reference.relative_l2(got, want)


@dataclasses.dataclass
class Row:
    """One tensor of the table."""
    name: str
    shape: str = ""
    error: float = float("inf")         # of the dump from diffusers in float32
    limit: float = 0.0
    exact: float | None = None          # of the dump from diffusers in float64
    own: float | None = None            # of diffusers in float32 from float64
    note: str = ""                      # why there is nothing to compare

    def verdict(self):
        if self.error <= self.limit:                    # false for NaN
            return "ok"
        if self.exact is not None and self.exact <= max(self.limit, 2 * self.own):
            return "rounding"
        return "WRONG"

    def text(self):
        if self.note:
            return f"{self.verdict():9}{self.name:22} {self.note}"
        columns = [self.error, self.limit, self.exact, self.own]
        columns = [" " * 9 if x is None else f"{x:9.1e}" for x in columns]
        return f"{self.verdict():9}{self.name:22} {self.shape:>13} " + " ".join(columns)


HEADER = (f"{'':9}{'tensor':22} {'shape':>13} {'distance':>9} {'bound':>9} {'float64':>9} "
          f"{'its own':>9}")


def table(dump, want, exact, guided):
    """The rows; exact is diffusers' float64 record or None."""
    rows = []
    for name in sorted(set(dump) & set(want), key=place):
        row = Row(name, "x".join(map(str, dump[name].shape)), distance(dump[name], want[name]),
                  bound(name, guided))
        if exact is not None:
            row.exact = distance(dump[name], exact[name])
            row.own = distance(want[name], exact[name])
        rows.append(row)
    rows += [Row(name, note="not in the dump") for name in sorted(set(want) - set(dump))
             if not name.startswith(OPTIONAL)]
    rows += [Row(name, note="not made by diffusers") for name in sorted(set(dump) - set(want))
             if name.startswith(("unet_output.", *OPTIONAL))]
    return rows


def run(folder, job, image, given, dtype=torch.float32):
    """Diffusers' tensors of the job, under the names of a dump."""
    try:
        return by_dump_names(reference.run(load(folder, dtype), job, image, given))
    except KeyError as error:
        raise Unable(error.args[0]) from None
    except (RuntimeError, ValueError) as error:     # such as a photograph one pixel wide
        raise Unable(f"diffusers cannot run this job: {str(error).splitlines()[0]}") from None


def conclude(rows):
    """One sentence, and whether all is right."""
    verdicts = [row.verdict() for row in rows]
    wrong, rounding = verdicts.count("WRONG"), verdicts.count("rounding")
    if wrong:
        return f"{wrong} of {len(rows)} WRONG", False
    if rounding:
        return (f"all {len(rows)} right; {rounding} over the bound by rounding that diffusers' own "
                "float32 has too", True)
    return f"all {len(rows)} within their bounds", True


def compare(path, args):
    """Print the comparison of one dump; returns whether all is right."""
    dump, meta = read(path)
    missing = [name for name in ("width", "height", "frames", "steps", "sampler", "seed")
               if name not in meta]
    if missing:
        raise Unable(f"{path}: no {', '.join(missing)} in the metadata; not a dump of "
                     "onestep-worker")
    job = reference.Job.from_metadata(meta)
    folder = find_checkpoint(args.checkpoint, meta)
    image = find_image(args.image, dump, meta)
    print(f"{path}\non {meta.get('device', 'a device not named')}, against diffusers on {folder}, "
          f"photograph {image.width}x{image.height}")
    print(" ".join(f"{name}={value}" for name, value in job.metadata().items()))
    given = noises(dump, meta)
    if given:
        print("noise taken from the dump:", " ".join(sorted(given)))
    want, guided = run(folder, job, image, given), job.guidance_max > 1
    rows = table(dump, want, None, guided)
    if args.float64 or any(not row.error <= row.limit and not row.note for row in rows):
        rows = table(dump, want, run(folder, job, image, given, torch.float64), guided)
    print("\n".join([HEADER, *(row.text() for row in rows)]))
    sentence, right = conclude(rows)
    print(sentence)
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dumps", type=pathlib.Path, nargs="+", metavar="DUMP",
                        help="file written by onestep-worker --dump")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="diffusers folder; default: the "
                        "dump's own, also looked for in tests/fixtures")
    parser.add_argument("--image", type=pathlib.Path, help="the photograph; default: the dump's own")
    parser.add_argument("--float64", action="store_true", help="run in float64 too, even when all "
                        "is within bounds")
    args = parser.parse_args()
    torch.set_num_threads(2)
    status = 0
    for index, path in enumerate(args.dumps):
        if index:
            print()
        try:
            status = max(status, 0 if compare(path, args) else 1)
        except Unable as error:
            print(f"compare.py: {error}", file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    sys.exit(main())
