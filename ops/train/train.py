"""Train the sample checkpoint: VAE, teacher, consistency distillation, OSV's two stages.

train.py PHOTOS OUT [--stages vae,teacher,cd,osv1,osv2] [--profile gpu|cpu]

PHOTOS is what photos.py packed. Each stage reads what the stages before it left in OUT and writes
OUT/STAGE.pt, half precision; it runs for the seconds of its profile in settings.json. Sources:
arXiv:2409.11367 (OSV), arXiv:2206.00364 (EDM), arXiv:2310.14189 (pseudo-Huber).
"""
import argparse
import copy
import json
import math
import pathlib
import time

import torch
import torch.nn.functional as F

import nets
from nets import denoise, view
from scenes import Scenes

HERE = pathlib.Path(__file__).resolve().parent


class Run:
    """What the stages share."""

    def __init__(self, args):
        self.cfg = json.loads(args.settings.read_text())
        self.out = pathlib.Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(args.device)
        self.profile = self.cfg["profiles"][args.profile]
        photos = torch.load(args.photos, weights_only=True)
        torch.manual_seed(self.cfg["seed"])
        self.scenes = Scenes(photos["train"], self.cfg, self.device, self.cfg["seed"])
        self.held = Scenes(photos["held"], self.cfg, self.device, 5)
        self.start, self.pool = time.monotonic(), None

    def given(self):
        self.pool = self.pool or Given(self)
        return self.pool

    def say(self, text):
        line = f"{time.monotonic() - self.start:6.1f} s  {text}"
        print(line, flush=True)
        with open(self.out / "train.log", "a") as log:
            log.write(line + "\n")

    def save(self, stage, **modules):
        state = {name: {k: v.detach().half().cpu() for k, v in m.state_dict().items()}
                 for name, m in modules.items()}
        torch.save(state, self.out / f"{stage}.pt")

    def load(self, stage, name, module):
        state = torch.load(self.out / f"{stage}.pt", weights_only=True)[name]
        module.load_state_dict({k: v.float() for k, v in state.items()})
        return module.to(self.device)

    def steps(self, stage):
        """(step, part of the stage's time that is over) until its time is over."""
        seconds, first, last, i = self.profile[stage]["seconds"], time.monotonic(), 0, 0
        while True:
            spent = time.monotonic() - first
            if spent > seconds and i > 1:
                break
            yield i, min(1.0, spent / seconds)
            i += 1
            if self.device.type == "cuda" and i % 8 == 0:
                torch.cuda.synchronize()        # or the clock runs ahead of the work
            last = i
        self.say(f"{stage}: {last} steps of {self.profile[stage]['batch']}")

    def rate(self, opt, stage, i, part, key="rate"):
        """Warm up, stay, fall over the last two fifths."""
        r = self.cfg["stages"][stage][key] * min(1, (i + 1) / 50) * min(1, 0.02 + (1 - part) / 0.4)
        for group in opt.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(r)
            else:
                group["lr"] = r


class Step:
    """work(*inputs) -> tensors, with whatever it trains. On a GPU it is recorded once for each shape
    of the inputs and replayed, since a small network is over before the next kernel is launched."""

    def __init__(self, run, work):
        self.run, self.work, self.graphs, self.pool = run, work, {}, None
        self.is_graph = run.device.type == "cuda" and run.cfg.get("graph", True)

    def record(self, inputs):
        still = [x.clone() for x in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.work(*still)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            out = self.work(*still)
        self.pool = self.pool or graph.pool()
        return graph, still, out

    def __call__(self, *inputs):
        if not self.is_graph:
            return self.work(*inputs)
        key = tuple(tuple(x.shape) for x in inputs)
        if key not in self.graphs:
            try:
                self.graphs[key] = self.record(inputs)
            except Exception as e:      # a network that can't be recorded is trained all the same
                self.run.say(f"not recorded, so slower: {type(e).__name__}: {str(e)[:300]}")
                self.is_graph = False
                torch.cuda.synchronize()
                return self.work(*inputs)
        graph, still, out = self.graphs[key]
        for a, b in zip(still, inputs):
            a.copy_(b)
        graph.replay()
        return out


def average(mean, net, i, rate):
    """mean follows net; over a short time at first."""
    rate = min(rate, (i + 1) / (i + 10))
    with torch.no_grad():
        torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - rate)


def frozen(module):
    return module.eval().requires_grad_(False)


def adam(net, betas=(0.9, 0.99), decay=1e-4):
    device = next(net.parameters()).device
    if device.type == "cuda":
        return torch.optim.AdamW(net.parameters(), torch.tensor(0.0, device=device), betas=betas,
                                 weight_decay=decay, fused=True, capturable=True)
    return torch.optim.AdamW(net.parameters(), 0.0, betas=betas, weight_decay=decay)


def update(opt, loss, net, limit=1.0):
    opt.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), limit)
    opt.step()


def psnr(a, b):
    """Of pictures in -1..1, the mean over a batch, in dB."""
    return float(10 * torch.log10(4 / (a.clamp(-1, 1) - b).square().mean((-3, -2, -1))).mean())


# --- VAE ------------------------------------------------------------------------------------------

def decode(vae, z):
    """Frames [n, f, 3, H, W] of latents [n, f, C, h, w] as the encoder gives them."""
    n, f = z.shape[:2]
    flags = torch.zeros(n, f, device=z.device)
    return vae.decoder(z.flatten(0, 1), flags, num_frames=f).unflatten(0, (n, f))


def edges(x):
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def train_vae(run):
    size, b = run.cfg["size"], run.profile["vae"]["batch"]
    vae = nets.fast_over_time(nets.vae(run.cfg)).to(run.device)
    mean = copy.deepcopy(vae)
    nets.fast_over_time(mean)
    opt = adam(vae)
    still = run.held.clips(24, 1, size)[0]

    def work(x):
        n, frames = x.shape[:2]
        with torch.autocast(run.device.type, torch.bfloat16):
            moments = vae.quant_conv(vae.encoder(x.flatten(0, 1)))
            mu, log_var = moments.float().chunk(2, 1)
            z = mu + 0.02 * torch.rand((), device=run.device) * torch.randn_like(mu)
            y = decode(vae, z.unflatten(0, (n, frames)))
        e = y.float() - x
        loss = (e.square() + 1e-4).sqrt().mean() + 2 * e.square().mean()
        loss = loss + sum(d.abs().mean() for d in edges(e))
        # Every channel towards mean 0 and deviation 1, so that the denoiser's noise meets known
        # sizes. The variance is not used: a clip is made from means.
        var, centre = torch.var_mean(mu, (0, 2, 3))
        loss = loss + 2e-3 * (var - 1 - var.clamp(min=1e-4).log() + centre.square()).mean()
        loss = loss + 1e-4 * log_var.square().mean()
        update(opt, loss, vae)
        return loss.detach()

    step = Step(run, work)
    for i, part in run.steps("vae"):
        run.rate(opt, "vae", i, part)
        # Crops, mostly; every fourth time whole frames in their course.
        x = run.scenes.clips(max(1, b // 12), 4, size)[0] if i % 4 == 3 else \
            run.scenes.clips(b, 1, size // 2)[0]
        loss = step(x)
        average(mean, vae, i, 0.995)
        if i % 200 == 0:
            with torch.no_grad():
                out = decode(mean, mean.quant_conv(mean.encoder(still.flatten(0, 1))).chunk(2, 1)[0]
                             .unflatten(0, still.shape[:2]))
            run.say(f"vae step {i} loss {loss.item():.4f} held-out {psnr(out, still):.2f} dB")
    with torch.no_grad():
        x = run.scenes.clips(32, 1, size)[0].flatten(0, 1)
        z = mean.quant_conv(mean.encoder(x)).chunk(2, 1)[0]
        out = decode(mean, mean.quant_conv(mean.encoder(still.flatten(0, 1))).chunk(2, 1)[0]
                     .unflatten(0, still.shape[:2]))
    run.say(f"vae deviation of latents {float(z.std()):.4f} held-out {psnr(out, still):.2f} dB")
    run.save("vae", vae=mean)
    (run.out / "vae.json").write_text(json.dumps({"scaling_factor": 1 / float(z.std()),
                                                  "held_out_psnr_db": psnr(out, still)}))


# --- what the denoisers are given -----------------------------------------------------------------

class Given:
    """Clips as latents of the trained VAE with their conditions; made once, drawn from by all."""

    def __init__(self, run):
        self.run, cfg = run, run.cfg
        self.vae = frozen(run.load("vae", "vae", nets.fast_over_time(nets.vae(cfg))))
        self.scale = json.loads((run.out / "vae.json").read_text())["scaling_factor"]
        parts, b, side = [], run.profile["pool"]["batch"], cfg["clip"]["image"]
        for _ in run.steps("pool"):
            z, first, given = self.make(run.scenes, b)
            small = F.interpolate(first, (side, side), mode="bicubic", antialias=True)
            parts.append([v.to(torch.bfloat16) for v in (z, given["cond"], small)]
                         + [given["ids"]])
        self.z, self.cond, self.small, self.ids = (torch.cat(p) for p in zip(*parts))
        run.say(f"pool: {len(self.z)} clips")

    def batch(self, n):
        """n clips of the pool: latents, first frames at the image encoder's size, conditions."""
        i = torch.randint(len(self.z), (n,), device=self.z.device)
        return self.z[i].float(), self.small[i].float(), self.cond[i].float(), self.ids[i]

    @torch.no_grad()
    def encode(self, x):
        with torch.autocast(x.device.type, torch.bfloat16):
            z = self.vae.quant_conv(self.vae.encoder(x.flatten(0, -4))).chunk(2, 1)[0]
        return z.float().unflatten(0, x.shape[:-3])

    @torch.no_grad()
    def make(self, scenes, n, bucket=None):
        """Latents [n, f, C, h, w] of deviation 1, the first frames, and conditions but `embed`."""
        cfg = self.run.cfg
        x, bucket = scenes.clips(n, cfg["frames"], cfg["size"], bucket)
        z = self.encode(x) * self.scale
        cond = self.encode(x[:, 0] + 0.02 * torch.randn_like(x[:, 0]))
        fps = torch.full((n,), 6.0, device=x.device)
        ids = torch.stack([fps, bucket, torch.full_like(fps, 0.02)], 1)
        return z, x[:, 0], {"cond": cond, "ids": ids}


def embedding(run, encoder, given, first, drop=0.0):
    """Add the image embedding; a part of a batch loses its picture, for guidance."""
    with torch.autocast(first.device.type, torch.bfloat16):
        e = nets.embed(encoder, first, run.cfg["clip"]["image"]).float()
    keep = (torch.rand(len(first), device=first.device) >= drop).float()
    given["embed"] = e * keep.view(-1, 1, 1)
    given["cond"] = given["cond"] * keep.view(-1, 1, 1, 1)
    return given


def over_frames(error):
    """The mean of an error [n, f, ...]; frame 0, which shall be the photograph, counts four times."""
    by_frame = error.mean((0, 2, 3, 4))
    return (by_frame.sum() + 3 * by_frame[0]) / (len(by_frame) + 3)


def huber(a, b, c):
    """Pseudo-Huber, arXiv:2310.14189."""
    return over_frames(((a - b).square() + c * c).sqrt() - c)


def karras(cfg, n, device):
    """n sigmas from sigma_max down to sigma_min, rho 7."""
    low, high = cfg["sigma"]
    r = torch.linspace(0, 1, n, device=device)
    return (high ** (1 / 7) + r * (low ** (1 / 7) - high ** (1 / 7))) ** 7


# --- teacher --------------------------------------------------------------------------------------

def train_teacher(run):
    t, b = run.cfg["stages"]["teacher"], run.profile["teacher"]["batch"]
    data = run.given()
    both = torch.nn.ModuleDict({"unet": nets.fast_over_time(nets.unet(run.cfg)),
                                "clip": nets.image_encoder(run.cfg)}).to(run.device)
    mean = copy.deepcopy(both)
    nets.fast_over_time(mean)
    opt = adam(both)
    low, high = run.cfg["sigma"]

    def work(z, small, cond, ids):
        given = embedding(run, both["clip"], {"cond": cond, "ids": ids}, small, 0.1)
        sigma = (torch.randn(b, device=run.device) * t["std"] + t["mean"]).exp().clamp(low, high)
        # An eighth evenly over all scales, since sampling starts where the normal hardly comes.
        even = low * (high / low) ** torch.rand(b, device=run.device)
        sigma = torch.where(torch.arange(b, device=run.device) < b // 8, even, sigma)
        d = denoise(both["unet"], z + view(sigma) * torch.randn_like(z), sigma, given)
        weight = (sigma.square() + 1) / sigma.square()
        loss = over_frames((d - z).square() * view(weight.clamp(max=1e4)))
        update(opt, loss, both)
        return loss.detach()

    step = Step(run, work)
    for i, part in run.steps("teacher"):
        run.rate(opt, "teacher", i, part)
        loss = step(*data.batch(b))
        average(mean, both, i, 0.999 if part > 0.5 else 0.99)
        if i % 100 == 0:
            run.say(f"teacher step {i} loss {loss.item():.4f}")
    run.save("teacher", unet=mean["unet"], clip=mean["clip"])


# --- students -------------------------------------------------------------------------------------

class Student:
    """Teacher, student, the student's moving average, and the losses between them."""

    def __init__(self, run, stage, start):
        cfg, self.run, self.stage = run.cfg, run, stage
        self.data = run.given()
        def net(where):
            return run.load(where, "unet", nets.fast_over_time(nets.unet(cfg)))
        self.teacher, self.net, self.mean = frozen(net("teacher")), net(start), frozen(net(start))
        self.clip = frozen(run.load("teacher", "clip", nets.image_encoder(cfg)))
        self.c = cfg["loss"]["huber_c"]
        self.sigmas = karras(cfg, cfg["loss"]["bins"], run.device).flip(0)      # rising

    def batch(self):
        return self.data.batch(self.run.profile[self.stage]["batch"])

    def given(self, small, cond, ids):
        with torch.no_grad():
            return embedding(self.run, self.clip, {"cond": cond, "ids": ids}, small)

    @torch.no_grad()
    def solve(self, x, high, low, given, steps):
        """The teacher's probability flow from sigma high to low in `steps` of Euler."""
        for k in range(steps):
            a = high + (low - high) * (k / steps)
            b = high + (low - high) * ((k + 1) / steps)
            d = denoise(self.teacher, x, a, given)
            x = x + view(b - a) * (x - d) / view(a)
        return x

    def distil(self, z, given, steps, jump=1):
        """Where the student lands from sigma and, by the teacher and the mean student, from `jump`
        bins below."""
        n = len(z)
        bins = len(self.sigmas)
        i = torch.randint(jump, bins, (n,), device=z.device)
        high, low = self.sigmas[i], self.sigmas[i - jump]
        x = z + view(high) * torch.randn_like(z)
        with torch.no_grad():
            y = self.solve(x, high, low, given, steps)
            target = denoise(self.mean, y, low, given)
        return huber(denoise(self.net, x, high, given), target, self.c)

    def one_step(self, z, given):
        """Mostly from sigma_max, as the sampler will; the rest from anywhere."""
        top = torch.rand(len(z), device=z.device) < self.run.cfg["loss"]["top"]
        any_ = self.sigmas[torch.randint(1, len(self.sigmas), (len(z),), device=z.device)]
        sigma = torch.where(top, self.sigmas[-1], any_)
        return denoise(self.net, z + view(sigma) * torch.randn_like(z), sigma, given)


def train_cd(run):
    """Consistency distillation alone, as AnimateLCM has it."""
    s = Student(run, "cd", "teacher")
    opt = adam(s.net)

    def work(z, small, cond, ids):
        loss = s.distil(z, s.given(small, cond, ids), 1)
        update(opt, loss, s.net)
        return loss.detach()

    step = Step(run, work)
    for i, part in run.steps("cd"):
        run.rate(opt, "cd", i, part)
        loss = step(*s.batch())
        average(s.mean, s.net, i, 0.98)
        if i % 50 == 0:
            run.say(f"cd step {i} loss {loss.item():.4f}")
    run.save("cd", unet=s.mean)


def train_osv(run, stage, start, with_teacher):
    """Stage 1: adversarial, with pseudo-Huber to the real latents. Stage 2: adversarial, with
    consistency distillation by a solver of several steps in place of the real latents."""
    cfg = run.cfg["loss"]
    s = Student(run, stage, start)
    critic = nets.Critic(run.cfg["vae"]["latents"]).to(run.device)
    if with_teacher:
        critic.load_state_dict(torch.load(run.out / "critic.pt", weights_only=True))
    opt = adam(s.net, (0.5, 0.99))
    critic_opt = adam(critic, (0.5, 0.99), 0.0)

    def work(z, small, cond, ids, real_weight):
        given = s.given(small, cond, ids)
        first, bucket = cond * s.data.scale, ids[:, 1]
        made = s.one_step(z, given)
        with torch.autocast(run.device.type, torch.bfloat16):
            real, false = critic(z, first, bucket), critic(made.detach(), first, bucket)
        critic_loss = F.relu(1 - real.float()).mean() + F.relu(1 + false.float()).mean()
        update(critic_opt, critic_loss, critic)
        with torch.autocast(run.device.type, torch.bfloat16):
            gain = -critic(made, first, bucket).float().mean()
        loss = cfg["gan"] * gain + cfg["huber"] * real_weight * huber(made, z, s.c)
        if with_teacher:
            loss = loss + s.distil(z, given, cfg["solver_steps"])
        update(opt, loss, s.net)
        return critic_loss.detach(), gain.detach(), loss.detach()

    step = Step(run, work)
    for i, part in run.steps(stage):
        run.rate(opt, stage, i, part)
        run.rate(critic_opt, stage, i, part, "critic_rate")
        # The pull to the real latents ends when the teacher's takes over.
        weight = torch.tensor(max(0.0, 1 - 2 * part) if with_teacher else 1.0, device=run.device)
        critic_loss, gain, loss = step(*s.batch(), weight)
        average(s.mean, s.net, i, 0.98 if with_teacher else 0.99)
        if i % 50 == 0:
            run.say(f"{stage} step {i} critic {critic_loss.item():.3f} gan {gain.item():.3f} "
                    f"student {loss.item():.4f}")
    run.save(stage, unet=s.mean)
    torch.save(critic.state_dict(), run.out / "critic.pt")


def draw(run):
    import sheet
    for stage in ("teacher", "cd", "osv1", "osv2"):
        if (run.out / f"{stage}.pt").exists():
            run.say(sheet.draw(run, stage, run.out / f"{stage}.png"))


STAGES = {"vae": train_vae, "teacher": train_teacher, "cd": train_cd,
          "osv1": lambda run: train_osv(run, "osv1", "teacher", False),
          "osv2": lambda run: train_osv(run, "osv2", "osv1", True), "sheet": draw}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos")
    parser.add_argument("out")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--settings", type=pathlib.Path, default=HERE / "settings.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--profile", help="of settings.json; as the device if not given")
    args = parser.parse_args()
    args.profile = args.profile or {"cuda": "gpu"}.get(args.device, args.device)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    run = Run(args)
    run.say(f"{args.profile} on {run.device}, torch {torch.__version__}")
    for stage in args.stages.split(","):
        STAGES[stage](run)


if __name__ == "__main__":
    main()
