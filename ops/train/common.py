"""What the stages share: settings, the clock, checkpoints, moving averages, fast convolutions."""
import argparse
import copy
import json
import pathlib
import time

import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent


def arguments(doc, *more):
    """Arguments that every stage has, `more` positional ones, and the settings as args.cfg."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("work", help="folder of everything that is not the checkpoint")
    for name in more:
        parser.add_argument(name)
    parser.add_argument("--photos", nargs="*", default=[], metavar="FOLDER",
                        help="where unpacked photographs are, beside the Python packages")
    parser.add_argument("--settings", type=pathlib.Path, default=HERE / "settings.json")
    args = parser.parse_args()
    args.cfg = json.loads(args.settings.read_text())
    torch.set_num_threads(1)
    return args


class Stage:
    """One stage's clock, log and file: `for i, lr in stage.steps(count): ...; stage.note(loss)`.

    The learning rate warms up, stays, and falls to nothing over the last third.  State is saved
    every minute; a stage that is started again goes on where it was.
    """

    def __init__(self, work, name, parts):
        self.work, self.name, self.parts = pathlib.Path(work), name, parts
        self.file = self.work / f"{name}.pt"
        self.spent, self.i, self.sum, self.count = 0.0, 0, 0.0, 0
        if self.file.exists():
            state = torch.load(self.file, weights_only=True)
            self.spent, self.i = state["spent"], state["i"]
            for key, part in parts.items():
                part.load_state_dict(state[key])

    def save(self):
        state = {k: p.state_dict() for k, p in self.parts.items()}
        torch.save({"spent": self.spent, "i": self.i, **state}, self.file.with_suffix(".new"))
        self.file.with_suffix(".new").replace(self.file)

    def steps(self, count):
        last_save = self.spent
        while self.i < count:
            start, left = time.monotonic(), 1 - self.i / count
            yield self.i, min(1, (self.i + 1) / 50) * min(1, left * 3)
            self.i += 1
            self.spent += time.monotonic() - start
            if self.i % 50 == 0 and self.count:
                line = f"{self.name} step {self.i} {self.spent:.0f} s loss {self.sum/self.count:.4f}"
                print(line, flush=True)
                self.sum, self.count = 0.0, 0
            if self.spent - last_save > 60:
                self.save()
                last_save = self.spent
        self.save()

    def note(self, loss):
        self.sum, self.count = self.sum + float(loss.detach()), self.count + 1


class Ema(torch.nn.Module):
    """A moving average of a module's weights."""

    def __init__(self, module, rate):
        super().__init__()
        self.mean, self.rate, self.n = copy.deepcopy(module), rate, 0

    @torch.no_grad()
    def update(self, module):
        self.n += 1
        rate = min(self.rate, (self.n + 1) / (self.n + 10))
        for a, b in zip(self.mean.parameters(), module.parameters()):
            a.lerp_(b, 1 - rate)


def conv_over_time(conv):
    """Make a Conv3d of kernel (3, 1, 1) run as the Conv2d it is: several times faster on a CPU."""
    def forward(x):
        b, c, f, h, w = x.shape
        y = F.conv2d(x.reshape(b, c, f, h * w), conv.weight.squeeze(-1), conv.bias,
                     padding=(1, 0))
        return y.view(b, -1, f, h, w)
    conv.forward = forward


def speed_up(module):
    for m in module.modules():
        if isinstance(m, torch.nn.Conv3d) and m.kernel_size == (3, 1, 1):
            conv_over_time(m)
        if isinstance(m, torch.nn.Conv2d):
            m.to(memory_format=torch.channels_last)
    return module
