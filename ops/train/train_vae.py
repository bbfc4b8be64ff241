"""The VAE's decoder.  train_vae.py WORK --photos FOLDER..."""

import torch
import torch.nn.functional as F

import common
import photos
import vae as vaes


def main():
    args = common.arguments(__doc__)
    cfg = args.cfg
    v = cfg["vae"]
    torch.manual_seed(cfg["seed"])
    basis = torch.load(f"{args.work}/axes.pt", weights_only=True)
    vae = vaes.build(v)
    dec = common.speed_up(vae.decoder)
    opt = torch.optim.AdamW(dec.parameters(), v["rate"], betas=(0.9, 0.98), weight_decay=1e-4)
    ema = common.Ema(dec, 0.99)
    stage = common.Stage(args.work, "vae", {"dec": dec, "opt": opt, "ema": ema})
    crops = photos.Crops(photos.load(photos.TRAIN, args.photos), cfg["seed"] + stage.i)
    held = photos.Crops(photos.load(photos.HELD, args.photos), 5).stills(16, 128)
    for i, rate in stage.steps(v["steps"]):
        for group in opt.param_groups:
            group["lr"] = v["rate"] * rate
        frames = 1 if i % 3 else 4
        n = v["batch"] // frames
        x = torch.cat([crops.clip(v["crop"], frames, 1.5 * torch.randn(2), 0.01)
                       for _ in range(n)])
        z = vaes.encode(basis, x)
        z = z + 0.05 * torch.rand(1) * torch.randn_like(z)
        with torch.autocast("cpu", torch.bfloat16):
            y = dec(z, torch.zeros(n, frames), num_frames=frames)
        e = y.float() - x
        loss = (e.square() + 1e-4).sqrt().mean() + 2 * e.square().mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(dec.parameters(), 1.0)
        opt.step()
        ema.update(dec)
        stage.note(loss)
        if i % 100 == 99:
            with torch.no_grad():
                y = torch.cat([ema.mean(vaes.encode(basis, h[None]), torch.zeros(1, 1), num_frames=1)
                               for h in held])
            mse = (y.clamp(-1, 1) - held).square().mean((1, 2, 3))
            print(f"held-out PSNR {float(10 * torch.log10(4 / mse).mean()):.2f} dB", flush=True)


if __name__ == "__main__":
    main()
