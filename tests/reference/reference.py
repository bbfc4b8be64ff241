"""One image-to-video job through diffusers' own StableVideoDiffusionPipeline, with a record.

load() reads a checkpoint folder, run() runs a Job on it and returns every intermediate tensor that
Onestep can dump, in diffusers' layouts and under the names of README.md.
"""
import dataclasses
import pathlib

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
import transformers
from diffusers import (AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline,
                       UNetSpatioTemporalConditionModel)
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as svd
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor

import samplers

logging.set_verbosity_error()
logging.disable_progress_bar()
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@dataclasses.dataclass
class Job:
    """The parameters of one job; the names are those of the command line."""
    width: int
    height: int
    frames: int
    fps: int = 7
    motion_bucket: int = 127
    noise_aug: float = 0.02
    seed: int = 0
    sampler: str = "consistency"        # consistency, tts_literal, tts_fmid, euler
    steps: int = 1
    guidance_min: float = 1.0           # of the first frame
    guidance_max: float = 1.0           # of the last frame; above 1: two passes per evaluation
    eps0: str = "fresh"                 # fresh, initial; for tts_*
    grid: int = 100                     # points of the consistency training grid
    decode_chunk_frames: int = 0        # frames decoded together; 0: all
    noise: str = "torch"                # torch: torch.randn on the CPU from seed; given: handed in

    @classmethod
    def from_metadata(cls, meta):
        """The job of a file's metadata (strings); fields that it lacks keep their defaults."""
        casts = {f.name: type(f.default) if f.default is not dataclasses.MISSING else int
                 for f in dataclasses.fields(cls)}
        return cls(**{name: cast(meta[name]) for name, cast in casts.items() if name in meta})

    def metadata(self):
        return {name: str(value) for name, value in dataclasses.asdict(self).items()}


class Noise:
    """The draws of a job, in order: image_noise [1,3,H,W], initial_noise [1,F,C,h,w], then what
    the sampler asks for.  Either all from one torch generator, or all handed in."""

    def __init__(self, seed=None, given=None):
        self.generator = None if given is not None else torch.Generator("cpu").manual_seed(seed)
        self.given = given                  # {"image_noise": .., "initial_noise": .., ...}
        self.steps = []                     # what the sampler has drawn

    def step(self, shape, dtype):
        name = f"step_noise.{len(self.steps)}"
        if self.given is None:
            draw = torch.randn(shape, generator=self.generator)
        elif name in self.given:
            draw = self.given[name].reshape(shape)
        else:
            raise KeyError(f"{name}: the sampler draws noise, and the file has no such tensor")
        self.steps.append(draw)
        return draw.to(dtype)


class Pipeline(StableVideoDiffusionPipeline):
    """The pipeline of diffusers with four taps, none of which changes what is computed:

    - it keeps what the image encoder, the VAE encoder and the VAE decoder get and give;
    - the size of the CLIP input is read from the checkpoint, where diffusers has 224 written in
      (a checkpoint with 224 goes through diffusers' own method);
    - noise may be handed in instead of drawn;
    - the VAE encoder gets its input in dense memory.  diffusers hands it a transposed view, for
      which torch takes a GroupNorm that sums every channel in float32, value by value: on 256x256
      pixels that alone puts the result 3e-5 from float64, in dense memory it is 3e-6.
    """

    def start(self, noise):
        """Begin a record; noise serves the next call."""
        self.noise, self.record = noise, {}

    def _encode_image(self, image, device, num_videos_per_prompt, do_classifier_free_guidance):
        size = self.image_encoder.config.image_size
        if size == 224:
            hook = self.image_encoder.register_forward_pre_hook(
                lambda module, args: self.record.update({"clip.pixel_values": args[0]}))
            out = super()._encode_image(image, device, num_videos_per_prompt,
                                        do_classifier_free_guidance)
            hook.remove()
        else:
            out = self.encode_image_sized(image, size)
            if do_classifier_free_guidance:
                out = torch.cat([torch.zeros_like(out), out])
        self.record["image_embedding"] = out[-1:, 0]
        return out

    def encode_image_sized(self, image, size):
        """svd._encode_image for one image, with 224 replaced by size."""
        image = self.video_processor.numpy_to_pt(self.video_processor.pil_to_numpy(image))
        image = (svd._resize_with_antialiasing(image * 2.0 - 1.0, (size, size)) + 1.0) / 2.0
        image = self.feature_extractor(
            images=image, do_normalize=True, do_center_crop=False, do_resize=False,
            do_rescale=False, return_tensors="pt").pixel_values
        image = image.to(next(self.image_encoder.parameters()).dtype)
        self.record["clip.pixel_values"] = image
        return self.image_encoder(image).image_embeds.unsqueeze(1)

    def _encode_vae_image(self, image, *args, **kwargs):
        given = self.noise.given
        if given is not None:                   # diffusers has added a draw of its own: put ours
            image = self.clean + self.noise_aug * given["image_noise"].reshape(image.shape)
        image = image.contiguous()
        out = super()._encode_vae_image(image, *args, **kwargs)
        self.record["vae.encode_in"] = image
        self.record["conditioning_latent"] = out[-1:]
        return out

    def decode_latents(self, latents, num_frames, decode_chunk_size=14):
        out = super().decode_latents(latents, num_frames, decode_chunk_size)
        self.record["vae.decode_in"] = latents[0] / self.vae.config.scaling_factor
        self.record["vae.decode_out"] = out[0].permute(1, 0, 2, 3)
        return out


def variant(folder):
    """The variant that diffusers must be told to read a part from: "fp16" where there is nothing
    else, or None."""
    plain = [path for path in folder.glob("*.safetensors*") if ".fp16." not in path.name]
    return None if plain else "fp16"


def load(folder, dtype=torch.float32):
    """The pipeline of a checkpoint folder, weights widened to dtype, on the CPU."""
    folder = pathlib.Path(folder)
    if not (folder / "model_index.json").is_file():
        raise SystemExit(f"{folder}: no model_index.json; name a diffusers checkpoint folder")
    parts = {"unet": UNetSpatioTemporalConditionModel, "vae": AutoencoderKLTemporalDecoder,
             "image_encoder": transformers.CLIPVisionModelWithProjection}
    parts = {name: part.from_pretrained(folder / name, variant=variant(folder / name), dtype=dtype,
                                        local_files_only=True) for name, part in parts.items()}
    pipe = Pipeline.from_pretrained(folder, local_files_only=True, **parts)
    pipe.set_progress_bar_config(disable=True)
    pipe.schedule = pipe.scheduler.config       # outlives the samplers that replace the scheduler
    pipe.euler = pipe.scheduler
    for part in (pipe.unet, pipe.vae, pipe.image_encoder):
        part.eval()
    return pipe


def scheduler_of(pipe, job, noise):
    config = pipe.schedule
    if job.sampler == "consistency":
        return samplers.Consistency(config, noise.step, job.grid)
    if job.sampler in ("tts_literal", "tts_fmid"):
        return samplers.TimeTravel(config, noise.step, job.grid, job.sampler[4:], job.eps0)
    if job.sampler == "euler":
        double = pipe.unet.dtype == torch.float64
        return samplers.Euler(config) if double else pipe.euler
    raise SystemExit(f"sampler {job.sampler}: not one of consistency, tts_literal, tts_fmid, euler")


def prepare_noise(pipe, job, given):
    """The noise of a job and the tensors that name it."""
    if given is not None:
        return Noise(given=given), given["image_noise"], given["initial_noise"]
    scale, channels = pipe.vae_scale_factor, pipe.unet.config.in_channels // 2
    twin = torch.Generator("cpu").manual_seed(job.seed)     # the pipeline's own draws, seen again
    image_noise = randn_tensor((1, 3, job.height, job.width), generator=twin)
    initial = randn_tensor((1, job.frames, channels, job.height // scale, job.width // scale),
                           generator=twin)
    return Noise(seed=job.seed), image_noise[0], initial[0]


@torch.no_grad()
def run(pipe, job, image, given=None):
    """Run job on image (a PIL RGB image); returns {name: tensor}, names as in README.md.

    given: None, or the noises of the job by name (see Noise).
    """
    noise, image_noise, initial = prepare_noise(pipe, job, given)
    calls, latents = [], []
    pipe.start(noise)
    pipe.clean = pipe.video_processor.preprocess(image, height=job.height, width=job.width)
    pipe.noise_aug = job.noise_aug
    pipe.scheduler = scheduler_of(pipe, job, noise)
    hook = pipe.unet.register_forward_hook(
        lambda module, args, kwargs, out: calls.append((args, kwargs, out[0])), with_kwargs=True)

    def keep(pipe, index, timestep, tensors):
        latents.append(tensors["latents"])
        return tensors

    # In float64 the pipeline would draw another stream: hand it the float32 draws, widened.
    handed = given is not None or pipe.unet.dtype != torch.float32
    if handed and given is None:
        randn_tensor(image_noise.shape, generator=noise.generator)
        randn_tensor(initial.shape, generator=noise.generator)
    frames = pipe(
        image, height=job.height, width=job.width, num_frames=job.frames,
        num_inference_steps=job.steps, min_guidance_scale=job.guidance_min,
        max_guidance_scale=job.guidance_max, fps=job.fps, motion_bucket_id=job.motion_bucket,
        noise_aug_strength=job.noise_aug, decode_chunk_size=job.decode_chunk_frames or job.frames,
        generator=torch.Generator("cpu").manual_seed(job.seed) if handed else noise.generator,
        latents=initial[None].to(pipe.unet.dtype) if handed else None,
        output_type="pt", callback_on_step_end=keep).frames
    hook.remove()
    out = {"image": torch.from_numpy(np.array(image)), "vae.image": pipe.clean,
           "vae.noise": image_noise[None], "initial_noise": initial, "frames": frames[0],
           "final_latents": latents[-1][0], **pipe.record}
    out.update({f"latents.{i}": x[0] for i, x in enumerate(latents)})
    out.update({f"step_noise.{i}": x[0] for i, x in enumerate(noise.steps)})
    for i, (args, kwargs, output) in enumerate(calls):
        out.update(evaluation(f"unet_output.{i}", output, job))
    out["unet.calls"] = calls
    return out


def evaluation(name, output, job):
    """One evaluation of the UNet by name: the passes and their combination, or the only pass."""
    if output.shape[0] == 1:
        return {name: output[0]}
    uncond, cond = output
    scale = torch.linspace(job.guidance_min, job.guidance_max, job.frames).to(output.dtype)
    return {name + ".uncond": uncond, name + ".cond": cond,
            name: uncond + scale[:, None, None, None] * (cond - uncond)}


def open_image(path):
    """A picture as people see it: turned by its EXIF orientation, three channels."""
    with PIL.Image.open(path) as image:
        return PIL.ImageOps.exif_transpose(image).convert("RGB")


def relative_l2(got, want):
    """|got - want| / |want| in float64; infinite where shapes differ."""
    got, want = got.double(), want.double()
    if got.shape != want.shape:
        return float("inf")
    return ((got - want).norm() / want.norm().clamp_min(1e-30)).item()
