"""The photographs: where each comes from and under which licence.

photos.py FILE --photos FOLDER...   packs them into one file for train.py: {"train": [...], "held":
[...]} of uint8 tensors [3, h, w], so that the machine that trains needs no packages of pictures.
"""
import argparse
import pathlib

import numpy as np
import torch
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
    ("ihc.png", SKIMAGE, "no known copyright restrictions", "see skimage.data"),
    ("retina.jpg", SKIMAGE, "CC0", "Haggstrom"),
    ("camera.png", SKIMAGE, "CC0", "Lav Varshney"),
    ("china.jpg", SKLEARN, "CC-BY-2.0", "danielbuechele"),
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
    ("flower.jpg", SKLEARN, "CC-BY-2.0", "vultilion"),
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


def load(table, extra, longest=800):
    """The photographs of a table as uint8 tensors [3, h, w], at most `longest` wide or high."""
    out = []
    for name, package, _, _ in table:
        found = [p for d in folders(extra) for p in sorted(d.rglob(name))]
        if not found:
            raise SystemExit(f"photos: {name} of {package} is in none of the folders given "
                             "with --photos; install or unpack that package")
        image = Image.open(found[0]).convert("RGB")
        image.thumbnail((longest, longest), Image.LANCZOS)
        out.append(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).contiguous())
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--photos", nargs="*", default=[], metavar="FOLDER",
                        help="where unpacked photographs are, beside the Python packages")
    args = parser.parse_args()
    torch.save({"train": load(TRAIN, args.photos), "held": load(HELD, args.photos)}, args.file)


if __name__ == "__main__":
    main()
