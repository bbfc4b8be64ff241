#!/usr/bin/env python3
"""Write tests/golden/*.safetensors: what diffusers computes on the tiny checkpoints.

One file per job; the tensors and the metadata are listed in README.md.  Some also hold the inputs
and outputs of every module.  Nothing here depends on the machine beyond float32 rounding.
"""
import argparse
import json
import pathlib
import platform

import diffusers
import numpy as np
import PIL
import PIL.Image
import safetensors.torch
import torch
import transformers

import golden_data
import reference
from reference import Job, relative_l2

TESTS = pathlib.Path(__file__).resolve().parents[1]

# Blocks that are also checked alone: {name in the file: module of the checkpoint}.
BLOCKS = {
    "tiny-a": {"res": "unet/down_blocks.1.resnets.0", "up_res": "unet/up_blocks.1.resnets.0",
               "transformer": "unet/down_blocks.0.attentions.0",
               "attention": "vae/encoder.mid_block.attentions.0",
               "decoder_attention": "vae/decoder.mid_block.attentions.0",
               "vae_res": "vae/decoder.mid_block.resnets.1"},
    "tiny-b": {"res": "unet/up_blocks.0.resnets.2",
               "transformer": "unet/mid_block.attentions.0",
               "attention": "vae/encoder.mid_block.attentions.0",
               "vae_res": "vae/decoder.mid_block.resnets.0"},
}

# name: (checkpoint, size of the input image, extras, job).  Extras: "modules" adds the inputs and
# outputs of every module, "pixels" the input of CLIP (600 kB at 224x224).
CASES = {
    "tiny-a-consistency1": ("tiny-a", (90, 50), ("modules", "pixels"),
        Job(64, 32, 4, fps=7, motion_bucket=127, noise_aug=0.02, seed=42)),
    "tiny-a-odd-consistency4": ("tiny-a", (53, 97), ("modules",),
        Job(56, 72, 3, fps=12, motion_bucket=40, noise_aug=0.1,
            seed=2**40 + 7, steps=4)),
    "tiny-a-tts-literal": ("tiny-a", (56, 72), (),
        Job(56, 72, 3, fps=25, motion_bucket=200, noise_aug=0.0, seed=3,
            sampler="tts_literal")),
    "tiny-a-tts-fmid": ("tiny-a", (90, 50), (),
        Job(64, 32, 5, fps=7, noise_aug=0.02, seed=5, sampler="tts_fmid")),
    "tiny-a-euler3": ("tiny-a", (40, 30), (),
        Job(72, 40, 4, fps=7, motion_bucket=127, noise_aug=0.02, seed=1,
            sampler="euler", steps=3, guidance_min=1.0, guidance_max=3.0)),
    "tiny-b-consistency1": ("tiny-b", (90, 50), ("modules", "pixels"),
        Job(40, 48, 3, fps=6, motion_bucket=90, noise_aug=0.05, seed=7)),
    "tiny-b-tts-literal2": ("tiny-b", (53, 97), (),
        Job(56, 40, 3, fps=8, noise_aug=0.02, seed=11, sampler="tts_literal",
            steps=2, eps0="initial")),
    "tiny-b-tts-fmid2": ("tiny-b", (53, 97), (),
        Job(24, 40, 5, fps=8, noise_aug=0.02, seed=12, sampler="tts_fmid",
            steps=2, eps0="fresh")),
    "tiny-b-euler3-chunk2": ("tiny-b", (40, 30), (),
        Job(40, 56, 5, fps=30, motion_bucket=10, noise_aug=0.3, seed=13,
            sampler="euler", steps=3, guidance_min=1.0, guidance_max=3.0,
            decode_chunk_frames=2)),
    "tiny-osv-consistency1": ("tiny-osv", (96, 64), (),
        Job(96, 64, 4, fps=7, motion_bucket=90, noise_aug=0.02, seed=21)),
    "tiny-osv-tts-fmid": ("tiny-osv", (90, 50), (),
        Job(64, 48, 4, fps=7, motion_bucket=60, noise_aug=0.02, seed=22, sampler="tts_fmid")),
}


def folder(checkpoint):
    """Of a fixture, or of the sample checkpoint."""
    fixture = TESTS / "fixtures" / checkpoint
    return fixture if fixture.exists() else TESTS.parent / "ops" / "checkpoints" / checkpoint


def module_of(pipe, path):
    part, name = path.split("/")
    return getattr(pipe, part).get_submodule(name)


class Taps:
    """Keeps the input and output of the first call of some modules during one run."""

    def __init__(self, pipe, checkpoint):
        self.calls, self.hooks = {}, []
        unet = pipe.unet
        names = {"unet.conv_in": unet.conv_in, "unet.mid": unet.mid_block}
        names.update({f"unet.down.{i}": block for i, block in enumerate(unet.down_blocks)})
        names.update({f"unet.up.{i}": block for i, block in enumerate(unet.up_blocks)})
        names.update({name: module_of(pipe, path)
                      for name, path in BLOCKS.get(checkpoint, {}).items()})
        for name, module in names.items():
            self.hooks.append(module.register_forward_hook(self.tap(name), with_kwargs=True))

    def tap(self, name):
        def keep(module, args, kwargs, out):
            if name not in self.calls:
                out = getattr(out, "sample", out)
                self.calls[name] = args, kwargs, out[0] if isinstance(out, tuple) else out
        return keep

    def close(self):
        for hook in self.hooks:
            hook.remove()


def block_tensors(taps, checkpoint):
    """Inputs and outputs of the tapped modules, by name."""
    out = {}
    for name, (args, kwargs, result) in taps.calls.items():
        if name not in BLOCKS[checkpoint]:
            out[name] = result
            continue
        out[name + ".input"], out[name + ".output"] = args[0], result
        if name in ("res", "up_res"):
            out[name + ".temb"] = args[1]
        if name == "transformer":
            out[name + ".context"] = kwargs["encoder_hidden_states"]
    return out


def blocks_in_double(pipe64, taps, checkpoint):
    """{name: relative L2 of the float32 output against float64 on the same input}."""
    def widen(x):
        return x.double() if torch.is_tensor(x) and x.is_floating_point() else x
    out = {}
    for name, path in BLOCKS[checkpoint].items():
        args, kwargs, result = taps.calls[name]
        kwargs = {key: widen(value) for key, value in kwargs.items()}
        want = module_of(pipe64, path)(*[widen(x) for x in args], **kwargs)
        want = getattr(want, "sample", want)
        out[name + ".output"] = relative_l2(result, want[0] if isinstance(want, tuple) else want)
    return out


@torch.no_grad()
def add_modules(pipe, pipe64, checkpoint, taps, got, tensors, errors):
    """Inputs, outputs and rounding errors of every module of the job in got."""
    args, kwargs, output = got["unet.calls"][0]
    sample, timestep = args
    frames = sample.shape[1]
    chunked = pipe.decode_latents(got["final_latents"][None], frames, 2)[0].permute(1, 0, 2, 3)
    tensors.update({
        "vae.image": got["vae.image"][0],
        "vae.noise": got["vae.noise"][0], "unet.sample": sample[0],
        "unet.timestep": timestep.reshape(1), "unet.added_time_ids": kwargs["added_time_ids"][0],
        "unet.output": output[0], "vae.decode_in": got["vae.decode_in"],
        "vae.decode_out": got["vae.decode_out"], "vae.decode_out_chunk2": chunked,
        **block_tensors(taps, checkpoint)})
    context = kwargs["encoder_hidden_states"].double()
    errors.update({
        "clip.image_embeds": relative_l2(got["image_embedding"], pipe64.image_encoder(
            got["clip.pixel_values"].double()).image_embeds),
        "vae.latents_mode": relative_l2(got["conditioning_latent"], pipe64.vae.encode(
            got["vae.encode_in"].double()).latent_dist.mode()),
        "unet.output": relative_l2(output, pipe64.unet(
            sample.double(), timestep, encoder_hidden_states=context,
            added_time_ids=kwargs["added_time_ids"], return_dict=False)[0]),
        "vae.decode_out": relative_l2(got["vae.decode_out"], pipe64.vae.decode(
            got["vae.decode_in"].double(), num_frames=frames).sample),
        **blocks_in_double(pipe64, taps, checkpoint)})


def versions():
    return {"diffusers": diffusers.__version__, "transformers": transformers.__version__,
            "torch": torch.__version__, "pillow": PIL.__version__, "numpy": np.__version__,
            "python": platform.python_version()}


def make_case(pipes, name):
    """The tensors and the metadata of one case."""
    checkpoint, size, extras, job = CASES[name]
    pipe, pipe64 = pipes[checkpoint]
    image = PIL.Image.fromarray(golden_data.picture(*size))
    taps = Taps(pipe, checkpoint)
    got = reference.run(pipe, job, image)
    taps.close()
    got64 = reference.run(pipe64, job, image)
    tensors = {"image": got["image"], "clip.image_embeds": got["image_embedding"],
               "vae.latents_mode": got["conditioning_latent"][0]}
    keep = ("initial_noise", "step_noise.", "unet_output.", "latents.", "final_latents", "frames")
    tensors.update({key: value for key, value in got.items() if key.startswith(keep)})
    errors = {key: relative_l2(tensors[key], got64[key])
              for key in got64 if key.startswith(keep[2:])}
    if "pixels" in extras:
        tensors["clip.pixel_values"] = got["clip.pixel_values"][0]
    if "modules" in extras:
        add_modules(pipe, pipe64, checkpoint, taps, got, tensors, errors)
    meta = {"checkpoint": checkpoint, **job.metadata(),
            "sigma_min": str(pipe.schedule.sigma_min), "sigma_max": str(pipe.schedule.sigma_max),
            "sigmas": " ".join(f"{float(s):.9g}" for s in pipe.scheduler.sigmas),
            **{f"fp64.{key}": f"{value:.2e}" for key, value in errors.items()},
            **{f"version.{key}": value for key, value in versions().items()}}
    if "modules" in extras:
        meta.update({key + ".module": path for key, path in BLOCKS[checkpoint].items()})
    return tensors, meta


def sort_metadata(data):
    """The bytes of a safetensors file with the metadata in order: the library shuffles it."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size:]


def save(folder, name, tensors, meta):
    """Write one file; the float tensors become float32, everything contiguous."""
    tensors = {key: (value.float() if value.is_floating_point() and value.dtype != torch.float64
                     else value).contiguous().clone() for key, value in tensors.items()}
    path = folder / f"{name}.safetensors"
    path.write_bytes(sort_metadata(safetensors.torch.save(tensors, metadata=meta)))
    print(f"{path.name}: {path.stat().st_size} bytes, {len(tensors)} tensors")
    return path.stat().st_size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="files to write; default: all")
    parser.add_argument("--out", type=pathlib.Path, default=TESTS / "golden",
                        help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(2)
    known = [*CASES, *golden_data.FILES]
    for name in args.names:
        if name not in known:
            parser.error(f"{name}: not one of {', '.join(known)}")
    args.out.mkdir(parents=True, exist_ok=True)
    names, total = args.names or known, 0
    pipes = {checkpoint: (reference.load(folder(checkpoint)),
                          reference.load(folder(checkpoint), torch.float64))
             for checkpoint in {CASES[name][0] for name in names if name in CASES}}
    for name in names:
        if name in CASES:
            tensors, meta = make_case(pipes, name)
        else:
            tensors, meta = golden_data.FILES[name]()
            meta.update({f"version.{key}": value for key, value in versions().items()})
        total += save(args.out, name, tensors, meta)
    print(total, "bytes together")


if __name__ == "__main__":
    main()
