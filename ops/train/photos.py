"""The photographs: where each comes from, under which licence, and crops of them in motion.

A clip is one photograph seen by a camera that pans and zooms: frame t shows the crop's window
moved by t steps.  Its direction is drawn apart from the picture, so nothing in frame 0 tells it.
"""
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

# (file, package, licence, author); `held` photographs are never trained on.
SKIMAGE = "PyPI scikit-image 0.26"
SKLEARN = "PyPI scikit-learn 1.9"
LOMIRI = "Debian lomiri-wallpapers-16.04"
TRAIN = (
    ("astronaut.png", SKIMAGE, "public domain", "NASA"),
    ("hubble_deep_field.jpg", SKIMAGE, "public domain", "NASA"),
    ("rocket.jpg", SKIMAGE, "public domain", "SpaceX"),
    ("brick.png", SKIMAGE, "CC0", "CC0Textures"),
    ("grass.png", SKIMAGE, "CC0", "CC0Textures"),
    ("gravel.png", SKIMAGE, "CC0", "CC0Textures"),
    ("ihc.png", SKIMAGE, "public domain", "Human Protein Atlas sample"),
    ("retina.jpg", SKIMAGE, "CC0", "Haggstrom"),
    ("camera.png", SKIMAGE, "CC0", "Lav Varshney"),
    ("china.jpg", SKLEARN, "CC-BY", "Jean-Pierre Dalbera"),
    ("aitzgorri_by_Aitzol_Berasategi.jpg", LOMIRI, "CC-BY-4.0", "Aitzol Berasategi"),
    ("friends_by_Aitzol_Berasategi.jpg", LOMIRI, "CC-BY-4.0", "Aitzol Berasategi"),
    ("life_by_Aitzol_Berasategi.jpg", LOMIRI, "CC-BY-4.0", "Aitzol Berasategi"),
    ("Picture_0B_by_freespace.jpg", LOMIRI, "CC-BY-4.0", "freespace"),
    ("Picture_1A_by_freespace.jpg", LOMIRI, "CC-BY-4.0", "freespace"),
    ("umang_by_Abhishek_Mudgal.jpg", LOMIRI, "CC-BY-4.0", "Abhishek Mudgal"),
    ("Wine_by_Jakkub_Mede.jpg", LOMIRI, "CC-BY-4.0", "Jakkub Mede"),
    ("seeding_by_Clements_Engelhardt.jpg", LOMIRI, "CC0-1.0", "Clements Engelhardt"),
)
HELD = (
    ("coffee.png", SKIMAGE, "CC0", "Rachel Michetti"),
    ("chelsea.png", SKIMAGE, "CC0", "Stefan van der Walt"),
    ("flower.jpg", SKLEARN, "CC-BY", "dany13"),
    ("picosdeeuropa_by_Aitzol_Berasategi.jpg", LOMIRI, "CC-BY-4.0", "Aitzol Berasategi"),
    ("sunset_by_Aitzol_Berasategi.jpg", LOMIRI, "CC-BY-4.0", "Aitzol Berasategi"),
)


def folders(extra):
    """Where photographs are looked for: the two Python packages and the folders in extra."""
    import skimage
    import sklearn.datasets
    own = [pathlib.Path(skimage.__file__).parent / "data",
           pathlib.Path(sklearn.datasets.__file__).parent / "images"]
    return own + [pathlib.Path(p) for p in extra]


def load(table, extra, longest=900):
    """The photographs of a table as tensors [3, h, w] in -1..1, at most `longest` wide or high."""
    out = []
    for name, package, _, _ in table:
        found = [p for d in folders(extra) for p in sorted(d.rglob(name))]
        if not found:
            raise SystemExit(f"photos: {name} of {package} is in none of the folders given "
                             "with --photos; install or unpack that package")
        image = Image.open(found[0]).convert("RGB")
        image.thumbnail((longest, longest), Image.LANCZOS)
        x = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1
        out.append(x)
    return out


class Crops:
    """Random windows of photographs, still or in motion."""

    def __init__(self, photos, seed):
        self.rng = np.random.default_rng(seed)
        # A pyramid, so that a window of any size is sampled without aliasing.
        self.levels = [[p] for p in photos]
        for level in self.levels:
            while min(level[-1].shape[1:]) >= 300:
                level.append(F.avg_pool2d(level[-1][None], 2)[0])

    def window(self, size):
        """A photograph's level, the window's centre and its pixel step, room for motion kept."""
        level = self.levels[self.rng.integers(len(self.levels))]
        step = math.exp(self.rng.uniform(math.log(0.8), math.log(6)))
        short = min(level[0].shape[1:])
        step = min(step, short / size * 0.98)
        k = min(len(level) - 1, max(0, int(math.log2(max(step, 1)))))
        pic, step = level[k], step / 2 ** k
        h, w = pic.shape[1:]
        half = step * size / 2
        cy = self.rng.uniform(half, h - half) if h > 2 * half else h / 2
        cx = self.rng.uniform(half, w - half) if w > 2 * half else w / 2
        return pic, cx, cy, step

    def colours(self):
        """A mirror and a mild change of colour, the same for a whole clip."""
        r = self.rng
        gain = torch.tensor(r.uniform(0.8, 1.2, 3), dtype=torch.float32).view(3, 1, 1)
        gain = gain.lerp(gain.mean().expand(3, 1, 1), float(r.uniform()))
        return gain, float(r.normal(0, 0.1)), r.uniform() < 0.5, list(r.permutation(3)) \
            if r.uniform() < 0.3 else [0, 1, 2]

    def clip(self, size, frames, pan, zoom):
        """[frames, 3, size, size]: the window moves pan pixels a frame and grows by zoom a frame."""
        pic, cx, cy, step = self.window(size)
        gain, bias, mirror, order = self.colours()
        h, w = pic.shape[1:]
        t = torch.arange(frames).float().view(-1, 1)
        grow = torch.exp(zoom * t)
        u = (torch.arange(size).float() - (size - 1) / 2).view(1, -1)
        sign = -1.0 if mirror else 1.0
        xs = cx + step * (sign * u * grow + pan[0] * t)
        ys = cy + step * (u * grow + pan[1] * t)
        grid = torch.empty(frames, size, size, 2)
        grid[..., 0] = (2 * (xs + 0.5) / w - 1)[:, None, :]
        grid[..., 1] = (2 * (ys + 0.5) / h - 1)[:, :, None]
        src = pic[order][None].expand(frames, -1, -1, -1)
        out = F.grid_sample(src, grid, mode="bilinear", padding_mode="reflection",
                            align_corners=False)
        return (out * gain + bias).clamp(-1, 1)

    def stills(self, n, size):
        """[n, 3, size, size]"""
        return torch.cat([self.clip(size, 1, (0, 0), 0) for _ in range(n)])
