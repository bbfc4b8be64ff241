"""Golden data that needs no model: the input pictures, torch's random stream, two resizes."""
import numpy as np
import PIL.Image
import torch
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as svd


def picture(width, height, seed=0):
    """A test picture, uint8 [height,width,3]: slopes, hard edges, a disc, fine texture."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x / width, y / height
    out = np.stack([u, v, 1 - (u + v) / 2], -1)
    out[(np.hypot(u - 0.6, v - 0.45) < 0.25)] = (0.9, 0.35, 0.1)
    out[(u < 0.3) & (v > 0.6)] = (0.05, 0.1, 0.3)
    out += 0.1 * np.sin(9 * u + 5 * v * v)[..., None] + 0.05 * rng.standard_normal(out.shape)
    return np.round(255 * out.clip(0, 1)).astype(np.uint8)


SEEDS = (0, 42, 2**40 + 7)
WHOLE = (1, 7, 15, 16, 17, 31, 100, 1000)
LONG = (1_000_003, 2_000_000)
PAIRS = ((15, 33), (17, 5), (1, 1, 16), (16, 7, 16), (1000, 3, 31))
STRIDE, ENDS = 9973, 64


def randn():
    """Streams of torch.randn on the CPU, each from a fresh generator unless it is a sequence."""
    out = {}
    for seed in SEEDS:
        for size in WHOLE:
            gen = torch.Generator("cpu").manual_seed(seed)
            out[f"seed{seed}.size{size}"] = torch.randn(size, generator=gen)
        for size in LONG:
            gen = torch.Generator("cpu").manual_seed(seed)
            x = torch.randn(size, generator=gen)
            name = f"seed{seed}.size{size}"
            out[name + ".first"], out[name + ".last"] = x[:ENDS], x[-ENDS:]
            out[name + ".strided"] = x[::STRIDE]
            out[name + ".sums"] = torch.stack([x.double().sum(), x.double().square().sum()])
        for sizes in PAIRS:
            gen = torch.Generator("cpu").manual_seed(seed)
            draws = [torch.randn(size, generator=gen) for size in sizes]
            name = f"seed{seed}.sequence" + "_".join(str(size) for size in sizes)
            out.update({f"{name}.{i}": draw for i, draw in enumerate(draws)})
    return out, {"seeds": " ".join(map(str, SEEDS)), "stride": str(STRIDE), "ends": str(ENDS),
                 "sizes": " ".join(map(str, WHOLE + LONG)),
                 "sequences": " ".join("_".join(map(str, p)) for p in PAIRS)}


# (in width, in height, out width, out height)
LANCZOS = ((90, 50, 64, 32), (53, 97, 56, 72), (40, 30, 72, 40), (31, 17, 31, 40), (64, 48, 64, 48),
           (7, 5, 16, 24), (1, 1, 8, 8), (120, 9, 16, 16))
# (in width, in height, out size)
ANTIALIAS = ((50, 34, 224), (233, 61, 224), (250, 20, 96), (37, 53, 96), (96, 96, 96),
             (97, 150, 96))


def resize():
    """PIL's LANCZOS on uint8 RGB, and the resize before CLIP on float [-1,1]."""
    out = {}
    for w, h, w2, h2 in LANCZOS:
        image = picture(w, h, seed=w)
        small = PIL.Image.fromarray(image).resize((w2, h2), PIL.Image.Resampling.LANCZOS)
        name = f"lanczos.{w}x{h}.{w2}x{h2}"
        out[name + ".input"] = torch.from_numpy(image)
        out[name + ".output"] = torch.from_numpy(np.array(small))
    for w, h, size in ANTIALIAS:
        image = picture(w, h, seed=h)
        x = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None] * 2 - 1
        y = svd._resize_with_antialiasing(x, (size, size))[0]
        name = f"antialias.{w}x{h}.{size}"
        out[name + ".input"] = torch.from_numpy(image)
        # A whole 224x224 picture is 600 kB: one channel of it tells the same.
        out[name + ".output"] = y[:1] if size > 96 else y
    return out, {"lanczos": "uint8 HWC, PIL.Image.resize",
                 "antialias": "uint8 HWC /255*2-1 -> float32 CHW, _resize_with_antialiasing; "
                              "outputs larger than 96 hold channel 0 only"}


FILES = {"randn": randn, "resize": resize}
