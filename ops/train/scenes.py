"""Clips of photographs in motion, made on the device that trains.

A clip is one photograph seen by a camera that pans, zooms and turns. The direction is drawn apart
from the picture, so nothing in frame 0 tells it; motion_bucket_id says how much there is of it.
"""
import math

import torch
import torch.nn.functional as F

SIDE = 768          # pixels of a photograph, squared, at the top of the pyramid
LEVELS = (768, 512, 384)


class Scenes:
    """Random clips of a list of uint8 photographs [3, h, w]."""

    def __init__(self, photos, cfg, device, seed):
        self.cfg, self.device = cfg, device
        self.random = torch.Generator(device).manual_seed(seed)
        self.drawn = {}         # of the last clips: way the picture goes, amount of motion, zoom
        squares = torch.stack([F.interpolate(self.square(p)[None], (SIDE, SIDE), mode="bicubic",
                                             antialias=True)[0] for p in photos])
        # A pyramid, so that a window of any size is sampled without aliasing.
        self.levels = [F.interpolate(squares, (s, s), mode="bilinear", antialias=True)
                       .clamp(-1, 1).to(device) for s in LEVELS]

    @staticmethod
    def square(p):
        """The middle of p, at most 4 to 3, so that making it square bends it little."""
        h, w = p.shape[1:]
        side = min(h, w)
        wide, high = min(w, side * 4 // 3), min(h, side * 4 // 3)
        y, x = (h - high) // 2, (w - wide) // 2
        return p[:, y:y + high, x:x + wide].float() / 127.5 - 1

    def uniform(self, n, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(n, generator=self.random, device=self.device)

    def colours(self, x):
        """A mild change of colour and a mirror, the same for all frames of a clip."""
        n = len(x)
        gain = 1 + 0.2 * (2 * self.uniform((n, 3, 1, 1, 1)) - 1)
        bias = 0.1 * (2 * self.uniform((n, 1, 1, 1, 1)) - 1)
        return (x * gain + bias).clamp(-1, 1)

    def clips(self, n, frames, size, bucket=None):
        """x [n, frames, 3, size, size] in -1..1 and the motion_bucket_id [n] of each."""
        c = self.cfg["motion"]
        low, high = c["buckets"]
        if bucket is None:
            bucket = self.uniform(n, low, high)
        amount = bucket / 255
        pictures = self.levels[int(torch.randint(len(self.levels), (), generator=self.random,
                                                 device=self.device))]
        side = pictures.shape[-1]
        which = torch.randint(len(pictures), (n,), generator=self.random, device=self.device)
        # Source pixels per pixel, between nearly 1:1 and the whole picture.
        step = self.uniform(n, 0.9, min(1.6, 0.95 * side / size))
        way = self.uniform(n, 0, 2 * math.pi)
        pan = torch.stack([way.cos(), way.sin()], 1) * (c["pan"] * amount)[:, None]
        zoom = self.uniform(n, -1, 1) * c["zoom"] * amount
        turn = self.uniform(n, -1, 1) * c["turn"] * amount
        # The window starts where its whole way, around the middle, stays inside the picture.
        whole = pan * (frames - 1) * step[:, None]
        room = ((side - step[:, None] * size - whole.abs()) / 2).clamp(min=0)
        centre = side / 2 + (2 * self.uniform((n, 2)) - 1) * room - whole / 2
        t = torch.arange(frames, device=self.device).float()
        u = torch.arange(size, device=self.device).float() - (size - 1) / 2
        mirror = torch.where(self.uniform(n) < 0.5, 1.0, -1.0)
        # The picture goes where the window does not; a mirror turns that around.
        self.drawn = {"way": torch.atan2(-way.sin(), -way.cos() * mirror), "amount": 2 * amount - 1,
                      "zoom": zoom / c["zoom"]}
        x = u.view(1, 1, 1, -1) * mirror.view(-1, 1, 1, 1)
        y = u.view(1, 1, -1, 1)
        scale = (zoom[:, None] * t).exp()[..., None, None]
        angle = (turn[:, None] * t)[..., None, None]
        move = pan[:, :, None] * t                                  # [n, 2, frames]
        sx = scale * (x * angle.cos() - y * angle.sin()) + move[:, 0, :, None, None]
        sy = scale * (x * angle.sin() + y * angle.cos()) + move[:, 1, :, None, None]
        px = centre[:, 0].view(-1, 1, 1, 1) + step.view(-1, 1, 1, 1) * sx
        py = centre[:, 1].view(-1, 1, 1, 1) + step.view(-1, 1, 1, 1) * sy
        grid = torch.stack([2 * (px + 0.5) / side - 1, 2 * (py + 0.5) / side - 1], -1)
        out = F.grid_sample(pictures[which], grid.view(n, frames * size, size, 2),
                            mode="bilinear", padding_mode="reflection", align_corners=False)
        out = self.colours(out.view(n, 3, frames, size, size))
        return out.transpose(1, 2), bucket
