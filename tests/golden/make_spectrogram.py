#!/usr/bin/env python3
"""Makes spectrogram.json: a signal, and what scipy's spectrogram says of it.

Run it with numpy and scipy installed:  python3 make_spectrogram.py
The committed file is of numpy 2.4 and scipy 1.17.
"""
import json
import pathlib

import numpy as np
from scipy import signal

NFFT, HOP, RATE, SAMPLES = 256, 100, 1000.0, 3000

t = np.arange(SAMPLES) / RATE
noise = np.random.default_rng(20240607).normal(size=SAMPLES)
chirp = 3.0 * signal.chirp(t, f0=20.0, t1=t[-1], f1=400.0)
hum = 0.5 * np.sin(2 * np.pi * 123.4 * t)
# As the analyzer receives it: single precision.
samples = (2.5 + noise + chirp + hum).astype(np.float32)

_, _, magnitudes = signal.spectrogram(
    samples.astype(np.float64), fs=RATE, window=signal.get_window("hann", NFFT), nperseg=NFFT,
    noverlap=NFFT - HOP, detrend=False, scaling="spectrum", mode="magnitude")

golden = {
    "nfft": NFFT,
    "hop": HOP,
    "samples": [float(f"{x:.9g}") for x in samples],
    "magnitudes": [[float(f"{x:.9g}") for x in line] for line in magnitudes.T],
}
path = pathlib.Path(__file__).with_name("spectrogram.json")
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
