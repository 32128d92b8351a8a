#!/usr/bin/env python3
"""Makes recordings/: PRODML recordings of 4 channels at 100 Hz, each 5 s long, for historic views.

Run it with numpy and h5py installed:  python3 make_recordings.py
T is 2026-01-01T00:00:00Z = 1767225600. a.h5 starts at T, b.h5 follows it without a gap at T+5, and
day-2/c.h5 starts at T+30. two-channels.h5 starts at T+60 and has 2 channels. timeless.h5 does not tell when
it was made. Sample s of channel c (from 0), counted from T, is 7000 * c + s - 10000.
"""
import pathlib

import h5py
import numpy as np

RATE, SECONDS = 100, 5
FOLDER = pathlib.Path(__file__).with_name("recordings")


def make(name, offset, channels, timed=True):
    with h5py.File(FOLDER / name, "w") as file:
        acquisition = file.create_group("Acquisition")
        acquisition.attrs["schemaVersion"] = np.bytes_("2.1")
        acquisition.attrs["PulseRate"] = float(RATE)
        acquisition.attrs["SpatialSamplingInterval"] = 2.0
        raw = acquisition.create_group("Raw[0]")
        raw.attrs["OutputDataRate"] = float(RATE)
        at = np.arange(RATE * SECONDS) + offset * RATE
        samples = 7000 * np.arange(channels)[None, :] + at[:, None] - 10000
        data = raw.create_dataset(
            "RawData", data=samples.astype(np.int16), chunks=(250, channels), compression="gzip", shuffle=True)
        data.attrs["Dimensions"] = np.array([b"time", b"locus"])
        if timed:
            data.attrs["PartStartTime"] = np.bytes_(f"2026-01-01T00:{offset // 60:02}:{offset % 60:02}.000000+00:00")


make("a.h5", 0, 4)
make("b.h5", 5, 4)
make("day-2/c.h5", 30, 4)
make("two-channels.h5", 60, 2)
make("timeless.h5", 0, 4, timed=False)
(FOLDER / "broken.h5").write_bytes(b"not HDF5\n")
