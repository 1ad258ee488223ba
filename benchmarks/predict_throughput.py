"""Pixels predicted per second of one CPU core, and what that makes for a stack of 1 TB.

``python benchmarks/predict_throughput.py``; time is that of the processor, so that a busy
machine does not matter much. 1 TB is taken as 5 * 10**11 pixels of 16 bits.
"""

import time

import numpy as np
import torch

from napari_metastructure.learning.model import SegmentationModel

PIXELS_PER_TERABYTE = 5e11


def main():
    torch.set_num_threads(1)
    image = np.random.default_rng(0).integers(0, 4096, (2, 1024, 1024)).astype(np.uint16)
    print("channels  megapixels/s  core hours per TB")
    for channels in (8, 16, 32):
        architecture = {"network": "unet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1}
        model = SegmentationModel(
            {**architecture, "channels": channels, "depth": 4}, [0, 1], seed=0
        )
        model.predict(image[:1, :512, :512])
        started = time.process_time()
        model.predict(image, labels=True)
        speed = image.size / (time.process_time() - started)
        hours = PIXELS_PER_TERABYTE / speed / 3600
        print(f"{channels:8}  {speed / 1e6:12.2f}  {hours:17,.0f}")


if __name__ == "__main__":
    main()
