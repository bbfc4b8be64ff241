#!/usr/bin/env python3
"""Goal: compare.py accepts a right dump and refuses a wrong one.

Makes dumps of the form of worker/dump.h with diffusers itself, spoils one value or leaves a tensor
out, and looks at the exit status.
"""
import argparse
import contextlib
import io
import pathlib
import sys
import tempfile

import PIL.Image
import safetensors.torch
import torch

import compare
import golden_data
import reference

JOBS = {
    "consistency": reference.Job(64, 32, 2, seed=9, steps=2),
    "tts": reference.Job(56, 72, 2, seed=9, sampler="tts_literal"),
    "euler": reference.Job(32, 32, 2, seed=9, sampler="euler", steps=2, guidance_max=2.5),
}


def run(path, tensors, meta):
    """Write a dump, compare it; returns the exit status and what was printed."""
    safetensors.torch.save_file(
        {name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path, metadata=meta)
    args, text = argparse.Namespace(dump=path, checkpoint=None, image=None), io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            return compare.compare(args), text.getvalue()
    except compare.Unable as error:
        return 2, str(error)


def expect(name, want, got):
    status, text = got
    if status != want:
        sys.exit(f"{name}: exit {status}, not {want}\n{text}")
    print(f"ok {name}")


def main():
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        photo, dump = pathlib.Path(folder, "a photo.png"), pathlib.Path(folder, "dump.safetensors")
        PIL.Image.fromarray(golden_data.picture(90, 50)).save(photo)
        pipe = reference.load(compare.FIXTURES / "tiny-a")
        for name, job in JOBS.items():
            right = compare.by_dump_names(reference.run(pipe, job, reference.open_image(photo)))
            meta = {**job.metadata(), "checkpoint": "tiny-a", "image": photo.as_uri()}
            expect(name, 0, run(dump, right, meta))
            expect(name + ", noise handed in", 0, run(dump, right, {**meta, "noise": "philox"}))
            for tensor in ("image_embedding", "conditioning_latent", "unet_output.0",
                           "initial_noise", "final_latents", "frames"):
                wrong = {**right, tensor: right[tensor] * 1.001}
                expect(f"{name}, {tensor} off by 0.1 %", 1, run(dump, wrong, meta))
            nan = right["frames"].clone()
            nan[0, 0, 0, 0] = float("nan")
            expect(name + ", NaN", 1, run(dump, {**right, "frames": nan}, meta))
            expect(name + ", other seed", 1, run(dump, right, {**meta, "seed": "10"}))
        extra = {**right, "unet_output.2": right["unet_output.1"]}
        expect("one evaluation too many", 1, run(dump, extra, meta))
        last = right.pop("unet_output.1")
        expect("tensor missing", 1, run(dump, right, meta))
        right["unet_output.1"] = last[:1]
        expect("wrong shape", 1, run(dump, right, meta))
        expect("no photograph", 2, run(dump, right, {**meta, "image": "https://example.com/a.png"}))
        expect("no checkpoint", 2, run(dump, right, {**meta, "checkpoint": "nowhere"}))


if __name__ == "__main__":
    main()
