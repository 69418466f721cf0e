"""Search for an image among others with model.onnx of this folder, which needs onnxruntime, numpy and Pillow alone:

python use.py infrared night.jpg visible day1.jpg day2.jpg ...
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MODALITIES = {"visible": 0, "infrared": 1}


def load(path):
    """An image file as uint8 [height, width, 3], RGB; one of 16 bits a pixel is stretched to 8."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64) - np.min(image)
        image = Image.fromarray(np.rint(values * (255 / max(values.max(), 1e-300))).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def embed(session, images, modality):
    """Images of any sizes -> float32 [N, D] of unit length. One run may take several of a size, [N, h, w, 3]."""
    kind = np.array([MODALITIES[modality]])
    return np.concatenate([session.run(None, {"images": image[None], "modality": kind})[0] for image in images])


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(str(Path(__file__).with_name("model.onnx")))
    try:
        modality, query, gallery_modality, *gallery = sys.argv[1:]
        vectors = embed(session, map(load, gallery), gallery_modality)
        cosines = vectors @ embed(session, [load(query)], modality)[0]
        for row in np.argsort(-cosines, kind="stable"):
            print(f"{cosines[row]:.4f}  {gallery[row]}")
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {error}\n{__doc__}")
