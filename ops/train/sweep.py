"""The sweep: the same first frames by every sampler, through Onestep itself, and their scores.

sweep.py learn PHOTOS DIR               trains the network that scores: DIR/features.pt
sweep.py jobs PHOTOS DIR --clips N      held-out first frames and DIR/jobs.jsonl
sweep.py run DIR CHECKPOINT --bin BIN   Redis, a broker, a worker for each of the three denoisers;
                                        the jobs are submitted, waited for and fetched
sweep.py score PHOTOS DIR --clips N     DIR/table.md, DIR/table.json, DIR/sheet.png; refuses
                                        when the network reads too few of the real directions

CHECKPOINT was written by export.py --others. `run` may be repeated: a job that is done stays done.
"""
import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time

import numpy as np
import torch
from PIL import Image

import features
from scenes import Scenes

HERE = pathlib.Path(__file__).resolve().parent

# Name, denoiser, parameters of the job, evaluations of the denoiser. Without guidance: the students
# were distilled from the teacher without it.
ROWS = (
    ("teacher 25", "teacher", {"sampler": "euler", "steps": 25, "guidance_max": 1}, 25),
    ("teacher 8", "teacher", {"sampler": "euler", "steps": 8, "guidance_max": 1}, 8),
    ("teacher 1", "teacher", {"sampler": "euler", "steps": 1, "guidance_max": 1}, 1),
    ("CD 1", "cd", {"steps": 1}, 1),
    ("CD 2", "cd", {"steps": 2}, 2),
    ("CD 4", "cd", {"steps": 4}, 4),
    ("CD 8", "cd", {"steps": 8}, 8),
    ("OSV 1", "student", {"steps": 1}, 1),
    ("OSV TTS", "student", {"sampler": "tts_fmid", "steps": 1}, 2),
    ("OSV 2", "student", {"steps": 2}, 2),
    ("OSV 4", "student", {"steps": 4}, 4),
)


def pixels(x):
    """A picture [3, h, w] in -1..1 as bytes [h, w, 3]."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


class Held:
    """n clips of photographs that nothing was trained on, in batches; what was drawn for them is in
    `true` and `buckets` when they have been gone through."""

    def __init__(self, args, cfg, seed):
        self.n, self.cfg, self.seed, self.true, self.buckets = args.clips, cfg, seed, [], []
        self.photos = torch.load(args.photos, weights_only=True)["held"]

    def __iter__(self):
        scenes = Scenes(self.photos, self.cfg, torch.device("cpu"), self.seed)
        for i in range(0, self.n, 16):
            x, buckets = scenes.clips(min(16, self.n - i), self.cfg["frames"], self.cfg["size"])
            self.true.append(features.truth(scenes.drawn))
            self.buckets += buckets.round().int().tolist()
            yield x


def given(args, cfg):
    """The clips whose first frames the jobs are given."""
    return Held(args, cfg, cfg["seed"] + 1)


def learn(args, cfg):
    """A pool of small clips, since they take longer to make than to learn from; a quarter of the
    steps puts new ones in the place of old."""
    torch.manual_seed(cfg["seed"])
    photos = torch.load(args.photos, weights_only=True)["train"]
    scenes = Scenes(photos, cfg, torch.device("cpu"), cfg["seed"] + 3)

    def fresh():
        x = features.shrink(scenes.clips(16, cfg["frames"], cfg["size"])[0])
        return x.half(), features.truth(scenes.drawn)

    parts = [fresh() for _ in range(args.pool // 16)]
    pool, true = (torch.cat(p) for p in zip(*parts))
    net = features.Features()
    opt = torch.optim.Adam(net.parameters(), 2e-3)
    start, i, mean = time.monotonic(), 0, 0.0
    while (spent := time.monotonic() - start) < args.seconds:
        for group in opt.param_groups:
            group["lr"] = 2e-3 * min(1.0, 0.02 + 2 * (1 - spent / args.seconds))
        if i % 4 == 3:
            at = 16 * int(torch.randint(len(pool) // 16, ()))
            pool[at:at + 16], true[at:at + 16] = fresh()
        pick = torch.randint(len(pool), (16,))
        out = net(pool[pick].float())[1]
        loss = features.loss_of(out, true[pick])
        opt.zero_grad()
        loss.backward()
        opt.step()
        i, mean = i + 1, 0.98 * mean + 0.02 * float(features.right(out, true[pick]).mean())
        if i % 50 == 0:
            print(f"{spent:5.0f} s step {i} loss {loss.item():.3f} direction {mean:.2f}",
                  flush=True)
    torch.save(net.state_dict(), args.dir / "features.pt")


def jobs(args, cfg):
    (args.dir / "first").mkdir(exist_ok=True)
    clips = given(args, cfg)
    for n, first in enumerate(clip[0] for batch in clips for clip in batch):
        Image.fromarray(pixels(first)).save(args.dir / "first" / f"{n:05}.png")
    with open(args.dir / "jobs.jsonl", "w", encoding="utf-8") as out:
        for name, model, more, _ in ROWS:
            for n, bucket in enumerate(clips.buckets):
                job = {"image": f"first/{n:05}.png", "model": model, "frames": cfg["frames"],
                       "width": cfg["size"], "height": cfg["size"], "fps": 6, "seed": 1000 + n,
                       "motion_bucket": bucket, "format": "png",
                       "labels": {"row": name, "n": str(n)}, "key": f"{name} {n}", **more}
                out.write(json.dumps(job) + "\n")


@contextlib.contextmanager
def program(log, *command):
    """A program that is stopped at the end."""
    with open(log, "w", encoding="utf-8") as out:
        p = subprocess.Popen([str(c) for c in command], stdout=out, stderr=out)
    try:
        yield p
    finally:
        p.terminate()
        p.wait()


def folder(args, name, unet):
    """A checkpoint folder of links: CHECKPOINT's parts, and one of its denoisers."""
    to = args.dir / "models" / name
    to.mkdir(parents=True, exist_ok=True)
    for part in args.checkpoint.resolve().iterdir():
        at = to / part.name
        if at.is_symlink():
            at.unlink()
        if part.name == "unet":
            part = part.with_name(unet)
        at.symlink_to(part)
    return to


def run(args, _):
    client = args.bin / "onestep"
    with contextlib.ExitStack() as stack:
        box = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sweep-")))
        (args.dir / "redis").mkdir(exist_ok=True)
        redis = stack.enter_context(program(
            args.dir / "redis.log", "redis-server", "--port", "0", "--unixsocket", box / "redis",
            "--dir", (args.dir / "redis").resolve(), "--appendonly", "yes",
            "--appendfsync", "always", "--maxmemory-policy", "noeviction"))
        while not (box / "redis").exists():
            if redis.poll() is not None:
                sys.exit(f"redis-server ended; see {args.dir / 'redis.log'}")
            time.sleep(0.05)
        clients, workers = f"ipc://{box}/client", f"ipc://{box}/worker"
        stack.enter_context(program(
            args.dir / "broker.log", args.bin / "onestep-broker",
            "--redis-url", f"unix://{box}/redis",
            "--client-endpoint", clients, "--worker-endpoint", workers))
        for name, unet in (("student", "unet"), ("teacher", "unet-teacher"), ("cd", "unet-cd")):
            stack.enter_context(program(
                args.dir / f"worker-{name}.log", args.bin / "onestep-worker",
                "--model", folder(args, name, unet), "--model-name", name, "--brokers", workers,
                "--input-root", args.dir.resolve(), "--threads", args.threads,
                "--blob", f"file://{(args.dir / 'store').resolve()}", "--work-dir", box / name))
        to = ["--broker", clients]
        sent = subprocess.run([client, "submit", "--manifest", args.dir / "jobs.jsonl", "--key",
                               "sweep", "--json", *to], check=True, stdout=subprocess.PIPE)
        (args.dir / "sent.jsonl").write_bytes(sent.stdout)
        ids = [json.loads(line)["job"] for line in sent.stdout.splitlines()]
        subprocess.run([client, "wait", *ids, *to], check=True, stdout=subprocess.DEVNULL)
        got = subprocess.run([client, "fetch", *ids, "-o", args.dir / "clips", "--json", *to],
                             check=True, stdout=subprocess.PIPE)
        (args.dir / "got.jsonl").write_bytes(got.stdout)


def frames_of(tar):
    """The clip [f, 3, h, w] in a tar of PNGs."""
    with tarfile.open(tar) as t:
        names = sorted(m.name for m in t if m.name.endswith(".png"))
        shots = [np.asarray(Image.open(io.BytesIO(t.extractfile(n).read())).convert("RGB"))
                 for n in names]
    return torch.from_numpy(np.stack(shots)).permute(0, 3, 1, 2).float() / 127.5 - 1


def fetched(args):
    """{row: [(tar, seconds of its attempt)]} in the order of the first frames."""
    out = {}
    for line in (args.dir / "got.jsonl").read_text(encoding="utf-8").splitlines():
        got = json.loads(line)
        manifest = json.loads(pathlib.Path(got["manifest"]).read_text(encoding="utf-8"))
        labels = manifest["labels"]
        row = out.setdefault(labels["row"], {})
        row[int(labels["n"])] = got["video"], manifest["total_seconds"]
    return {row: [clips[n] for n in sorted(clips)] for row, clips in out.items()}


def spread(a, b, times=50):
    """The deviation of Frechet's distance when the clips of b are drawn anew from themselves."""
    gen = torch.Generator().manual_seed(1)
    picks = [torch.randint(len(b), (len(b),), generator=gen) for _ in range(times)]
    return float(torch.tensor([features.frechet(a, b[p]) for p in picks]).std())


def figures(name, made, reference, first, amount):
    """The row of clips of which features.read said `made`."""
    f, head, start = made
    way = head[:, :features.WAYS].softmax(1)
    mean = way.mean(0)
    error = (start - first).square().mean((1, 2, 3)).clamp(min=1e-6)
    pair = torch.stack([head[:, features.WAYS], amount])
    return {"row": name, "clips": len(f), "fd_pan3d": features.frechet(reference, f),
            "fd_deviation": spread(reference, f), "mmd": features.mmd(reference, f),
            "frame0_psnr_db": float(10 * torch.log10(4 / error).mean()),
            "direction_entropy": float(-(mean * mean.clamp(min=1e-9).log()).sum()),
            "direction_confidence": float(way.max(1)[0].mean()),
            "amount_correlation": float(torch.corrcoef(pair)[0, 1])}


def table(rows):
    lines = ["| clips made by | evaluations | FD[pan3d] | MMD x 1000 | frame 0, dB"
             " | direction entropy | confidence | amount follows bucket | s a clip |",
             "| --- " * 9 + "|"]
    for r in rows:
        lines.append(
            f"| {r['row']} | {r.get('evaluations', '')}"
            f" | {r['fd_pan3d']:.2f} ± {r['fd_deviation']:.2f} | {1000 * r['mmd']:.1f}"
            f" | {r['frame0_psnr_db']:.1f} | {r['direction_entropy']:.2f}"
            f" | {r['direction_confidence']:.2f} | {r['amount_correlation']:.2f}"
            f" | {r.get('seconds', float('nan')):.2f} |")
    return "\n".join(lines).replace("nan", "") + "\n"


def score(args, cfg):
    net = features.Features().eval()
    net.load_state_dict(torch.load(args.dir / "features.pt", weights_only=True))
    clips, others = given(args, cfg), Held(args, cfg, cfg["seed"] + 2)
    real, other = features.read(net, clips), features.read(net, others)
    still = features.read(net, (x[:, :1].expand_as(x) for x in given(args, cfg)))
    reference, _, first = real
    true, other_true = torch.cat(clips.true), torch.cat(others.true)
    read = float(torch.cat([features.right(real[1], true),
                            features.right(other[1], other_true)]).mean())
    print(f"{read:.2f} of the directions of held-out real clips are read rightly; chance: 0.12")
    if read < args.least:
        raise SystemExit(f"sweep: a network that reads less than {args.least} tells nothing; "
                         "learn longer")
    rows = [figures("other real clips (floor)", other, reference, other[2], other_true[:, 1]),
            figures("first frame repeated", still, reference, first, true[:, 1])]
    made, sheet = fetched(args), []
    for name, _, _, evaluations in ROWS:
        row = made.get(name, ())
        if len(row) != args.clips:
            raise SystemExit(f"sweep: {len(row)} clips of {name}, not {args.clips}")
        seen = features.read(net, (frames_of(tar)[None] for tar, _ in row))
        rows.append({**figures(name, seen, reference, first, true[:, 1]),
                     "evaluations": evaluations, "seconds": float(np.median([s for _, s in row]))})
        x = frames_of(row[args.clips // 2][0])
        sheet.append(torch.cat([x[t] for t in (0, 3, 6, 9, cfg["frames"] - 1)], 2))
    (args.dir / "table.json").write_text(
        json.dumps({"directions_read": read, "rows": rows}, indent=1))
    (args.dir / "table.md").write_text(table(rows), encoding="utf-8")
    Image.fromarray(pixels(torch.cat(sheet, 1))).save(args.dir / "sheet.png")
    print(table(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=pathlib.Path, default=HERE / "settings.json")
    parts = parser.add_subparsers(required=True)
    for work, names in ((learn, ("photos", "dir")), (jobs, ("photos", "dir")),
                        (run, ("dir", "checkpoint")), (score, ("photos", "dir"))):
        part = parts.add_parser(work.__name__)
        part.set_defaults(work=work)
        for name in names:
            part.add_argument(name, type=pathlib.Path)
        if work is learn:
            part.add_argument("--seconds", type=float, default=1200)
            part.add_argument("--pool", type=int, default=2048, help="clips that are kept")
        if work in (jobs, score):
            part.add_argument("--clips", type=int, default=1024)
        if work is score:
            part.add_argument("--least", type=float, default=0.5, help="of directions read rightly")
        if work is run:
            part.add_argument("--bin", type=pathlib.Path,
                              default=HERE.parents[1] / "build/release/bin")
            part.add_argument("--threads", type=int, default=0, help="of each worker")
    args = parser.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    args.work(args, json.loads(args.settings.read_text()))


if __name__ == "__main__":
    main()
