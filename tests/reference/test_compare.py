#!/usr/bin/env python3
"""Goal: compare.py accepts a right dump and refuses a wrong one.

Makes dumps of the form of worker/dump.h with diffusers itself, spoils one value or leaves a tensor
out, and looks at the exit status.
"""
import argparse
import contextlib
import io
import pathlib
import subprocess
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
    args, text = argparse.Namespace(checkpoint=None, image=None, float64=False), io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            return 0 if compare.compare(path, args) else 1, text.getvalue()
    except compare.Unable as error:
        return 2, str(error)


def expect(name, want, got):
    status, text = got
    if status != want:
        sys.exit(f"{name}: exit {status}, not {want}\n{text}")
    print(f"ok {name}")


def verdicts():
    """The verdict by distances alone: error, limit, exact, own."""
    cases = {"within": (9e-6, 1e-5, None, None, "ok"),
             "over, float64 not asked": (2e-5, 1e-5, None, None, "WRONG"),
             "over, near float64": (2e-5, 1e-5, 9e-6, 1e-6, "rounding"),
             "over, as far as diffusers": (2e-4, 1e-5, 1.5e-4, 1e-4, "rounding"),
             "over, farther than diffusers": (2e-4, 1e-5, 2.1e-4, 1e-4, "WRONG"),
             "NaN": (float("nan"), 1e-5, float("nan"), 1e-6, "WRONG")}
    for name, (error, limit, exact, own, want) in cases.items():
        got = compare.Row("x", "1", error, limit, exact, own).verdict()
        if got != want:
            sys.exit(f"{name}: {got}, not {want}")
        print(f"ok {name}")


def command(*arguments):
    """compare.py as a program: exit status and output."""
    script = pathlib.Path(compare.__file__)
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True,
                          check=False)
    return done.returncode, done.stdout + done.stderr


def main():
    verdicts()
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
        torch_right = {**right, "unet_output.1": last}
        expect("several dumps", 0, (run(dump, torch_right, meta)[0], ""))
        bad = pathlib.Path(folder, "bad.safetensors")
        run(bad, right, meta)
        status, text = command(dump, bad)
        expect("several dumps, the last one wrong", 1, (status, text))
        if text.count("within their bounds") != 1 or text.count("WRONG\n") != 1:
            sys.exit(f"two tables and two verdicts were expected\n{text}")
        expect("a file that is no dump", 2, command(photo, dump))
        PIL.Image.fromarray(golden_data.picture(1, 1)).save(photo)
        expect("diffusers cannot", 2, run(dump, right, meta))
        photo.unlink()
        expect("no photograph", 2, run(dump, right, {**meta, "image": "https://example.com/a.png"}))
        expect("no checkpoint", 2, run(dump, right, {**meta, "checkpoint": "nowhere"}))


if __name__ == "__main__":
    main()
