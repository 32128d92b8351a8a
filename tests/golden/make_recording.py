#!/usr/bin/env python3
"""Makes prodml_channels_first.h5: a PRODML recording of 4 channels and 300 samples, channels first.

Run it with numpy and h5py installed:  python3 make_recording.py
Sample s of channel c (from 0) is 1000 * c + s. OutputDataRate (100 Hz) overrides PulseRate (1000 Hz).
"""
import pathlib

import h5py
import numpy as np

CHANNELS, SAMPLES = 4, 300

with h5py.File(pathlib.Path(__file__).with_name("prodml_channels_first.h5"), "w") as file:
    acquisition = file.create_group("Acquisition")
    acquisition.attrs["schemaVersion"] = np.bytes_("2.0")
    acquisition.attrs["PulseRate"] = 1000.0
    acquisition.attrs["SpatialSamplingInterval"] = 2.0
    raw = acquisition.create_group("Raw[0]")
    raw.attrs["OutputDataRate"] = 100.0
    samples = 1000 * np.arange(CHANNELS)[:, None] + np.arange(SAMPLES)[None, :]
    data = raw.create_dataset(
        "RawData", data=samples.astype(np.int16), chunks=(2, 128), compression="gzip", shuffle=True)
    data.attrs["Dimensions"] = np.array([b"locus", b"time"])
