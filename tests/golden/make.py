"""Makes what is frozen here: crops of real volumes under data/, and under answers/ what scipy, scikit-image and
connected-components-3d say of them. Run by hand, seldom; nothing that builds or tests the project runs it.

    python tests/golden/make.py --source DIR    # crops and answers; DIR holds the volumes that data/README.md lists
    python tests/golden/make.py                 # the answers alone

NIfTI volumes are read with nibabel, which the tests' requirements leave out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

CROPS = {
    "bone": ("bone_128x128x128.tif", np.s_[:43, 10:61, 7:66], np.uint8),
    "cement": ("cement_128x128x128.tif", np.s_[40:80, 30:78, 20:76], np.uint8),
    "fly": ("fly_150x256x256.tif", np.s_[60:101, 100:147, 100:153], np.uint8),
    "head": ("ch2.nii.gz", np.s_[80:121, 0:47, 60:113], np.uint8),
    "atlas": ("aal.nii.gz", np.s_[80:121, 90:137, 60:113], np.uint8),
    "diffusion": ("dwi_denoised_58x58x24_f64.nii.gz", np.s_[:, 5:50, 8:53], np.float32),
    "nuclei": ("nuclei_img3d.tif", np.s_[:], np.uint16),
    "nuclei_labels": ("nuclei_mask3d.tif", np.s_[:], np.uint16),
}
"""Name -> file, crop in z, y, x, type."""


def volume(path: Path) -> np.ndarray:
    """A whole volume in z, y, x order."""
    if path.suffix == ".tif":
        import tifffile

        return tifffile.imread(path)
    import nibabel

    return np.asarray(nibabel.load(path).dataobj).T


def main() -> None:
    """Crops where a source is given, then answers."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--source", type=Path, help="folder with the volumes; without it the crops stay")
    source = arguments.parse_args().source
    if source:
        for name, (file, crop, dtype) in CROPS.items():
            np.save(HERE / "data" / f"{name}.npy", np.ascontiguousarray(volume(source / file)[crop].astype(dtype)))
    import golden

    golden.freeze()


if __name__ == "__main__":
    main()
