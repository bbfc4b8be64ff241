"""The axes of the latents, from the training photographs.  train_axes.py WORK --photos FOLDER..."""

import torch

import common
import photos
import vae as vaes


def main():
    args = common.arguments(__doc__)
    cfg = args.cfg
    crops = photos.Crops(photos.load(photos.TRAIN, args.photos), cfg["seed"])
    basis = vaes.axes(crops, cfg["vae"]["latents"], cfg["vae"]["whiten"])
    torch.save(basis.half().float(), f"{args.work}/axes.pt")


if __name__ == "__main__":
    main()
