//! From samples to levels in dB and to 8-bit intensities. Pure: no clock, no I/O.
//!
//! A level is `20 * log10(|X[k]| / sum(w))`, where `X` is the Fourier transform of the window's samples times
//! `w`, the periodic Hann window: `scipy.signal.spectrogram` with `window='hann'`, `detrend=False`,
//! `scaling='spectrum'` and `mode='magnitude'`, in dB. A sine of amplitude A reads `20 * log10(A / 2)`.
//! 0 dB is one unit of the source's samples. Levels below [`FLOOR_DB`] read as [`FLOOR_DB`].

use std::ops::Range;
use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

/// The lowest level, dB: that of silence, and of windows with a sample that is no number.
pub const FLOOR_DB: f32 = -200.0;
const FLOOR_POWER: f32 = 1e-20;

/// Widest range that one line's intensities span, dB; what is further below the line's maximum reads 0.
/// A dead channel must not cost the others their resolution: a step is at most 120 / 255 = 0.47 dB.
pub const RANGE_DB: f32 = 120.0;

/// The levels of the windows of two channels at a time, with buffers that are used again for each.
///
/// One complex transform serves two real channels, one as its real and one as its imaginary part: three times
/// as fast as a real transform for each. A channel is heard in its partner at about -135 dB, as rounding does.
pub struct Spectrogram {
    fft: Arc<dyn Fft<f32>>,
    /// The Hann window divided by twice its sum, so that scaling and splitting cost nothing.
    window: Vec<f32>,
    input: Vec<Complex32>,
    /// The transform, and its first value once more at the end.
    spectrum: Vec<Complex32>,
    scratch: Vec<Complex32>,
    bins: Range<usize>,
    silence: Vec<f32>,
    unheard: Vec<f32>,
}

impl Spectrogram {
    /// For windows of `nfft` samples, of which `bins` are wanted (`bins.end <= nfft / 2 + 1`).
    pub fn new(nfft: usize, bins: Range<usize>) -> Self {
        let fft = FftPlanner::<f32>::new().plan_fft_forward(nfft);
        Self {
            window: scaled_hann(nfft),
            input: vec![Complex32::default(); nfft],
            spectrum: vec![Complex32::default(); nfft + 1],
            scratch: vec![Complex32::default(); fft.get_outofplace_scratch_len()],
            fft,
            silence: vec![0.0; nfft],
            unheard: vec![0.0; bins.len()],
            bins,
        }
    }

    /// Writes the levels, dB, of the wanted bins of `samples` (`nfft` of them) to `levels` (one for each bin).
    pub fn levels(&mut self, samples: &[f32], levels: &mut [f32]) {
        self.transform(samples, None);
        let mut unheard = std::mem::take(&mut self.unheard);
        self.split(levels, &mut unheard);
        self.unheard = unheard;
    }

    /// The same for two channels.
    pub fn levels_of_two(&mut self, samples: [&[f32]; 2], levels: [&mut [f32]; 2]) {
        let [first, second] = levels;
        self.transform(samples[0], Some(samples[1]));
        if self.spectrum[0].is_finite() {
            self.split(first, second);
        } else {
            // One broken sample would make its whole partner unreadable.
            self.levels(samples[0], first);
            self.levels(samples[1], second);
        }
    }

    fn transform(&mut self, real: &[f32], imaginary: Option<&[f32]>) {
        let imaginary = imaginary.unwrap_or(&self.silence);
        for (((input, re), im), weight) in self.input.iter_mut().zip(real).zip(imaginary).zip(&self.window) {
            *input = Complex32::new(re * weight, im * weight);
        }
        let nfft = self.window.len();
        let spectrum = &mut self.spectrum[..nfft];
        self.fft.process_outofplace_with_scratch(&mut self.input, spectrum, &mut self.scratch);
        self.spectrum[nfft] = self.spectrum[0];
    }

    /// Writes the levels of both channels.
    fn split(&self, first: &mut [f32], second: &mut [f32]) {
        self.split_powers(first, second);
        // In loops of their own, which compilers turn into vector instructions.
        for power in first {
            *power = power_db(*power);
        }
        for power in second {
            *power = power_db(*power);
        }
    }

    /// With z = Z[k] and y = Z[nfft - k], both halved, the channels' values are z + y* and (z - y*) / i.
    fn split_powers(&self, first: &mut [f32], second: &mut [f32]) {
        let nfft = self.window.len();
        let forward = &self.spectrum[self.bins.clone()];
        let backward = &self.spectrum[nfft + 1 - self.bins.end..nfft + 1 - self.bins.start];
        for (((a, b), z), y) in first.iter_mut().zip(second).zip(forward).zip(backward.iter().rev()) {
            let (a_re, a_im, b_re, b_im) = (z.re + y.re, z.im - y.im, z.im + y.im, y.re - z.re);
            *a = a_re * a_re + a_im * a_im;
            *b = b_re * b_re + b_im * b_im;
        }
    }
}

/// `scipy.signal.get_window('hann', nfft)`, which is periodic, divided by twice its sum.
fn scaled_hann(nfft: usize) -> Vec<f32> {
    let hann = |n: usize| 0.5 - 0.5 * (2.0 * std::f64::consts::PI * n as f64 / nfft as f64).cos();
    let sum: f64 = (0..nfft).map(hann).sum();
    (0..nfft).map(|n| (hann(n) / (2.0 * sum)) as f32).collect()
}

/// The level, dB, of a window whose samples' squares have this mean: `20 * log10(RMS)`.
pub fn mean_square_db(mean_square: f64) -> f32 {
    power_db(mean_square as f32)
}

/// `10 * log10(power)` within 5e-5 dB, in a form that compilers turn into vector instructions; [`FLOOR_DB`]
/// for powers below 1e-20 and for what is no finite number.
#[inline]
pub fn power_db(power: f32) -> f32 {
    const SQRT_HALF_BITS: i32 = 0x3f35_04f3;
    const DB_PER_OCTAVE: f32 = 3.010_3;
    const DB_PER_NEPER: f32 = 4.342_945;
    let power = if power > FLOOR_POWER { power } else { FLOOR_POWER };
    let power = if power <= f32::MAX { power } else { FLOOR_POWER };
    // power = m * 2^e with m from sqrt(1/2) to sqrt(2); ln m = 2 artanh s with |s| < 0.172, whose series
    // errs by less than 2/7 * s^7 = 1.3e-6 when cut after s^5.
    let bits = power.to_bits() as i32;
    let exponent = (bits - SQRT_HALF_BITS) >> 23;
    let m = f32::from_bits((bits - (exponent << 23)) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let artanh = s * (1.0 + s2 * (1.0 / 3.0 + s2 * (1.0 / 5.0)));
    exponent as f32 * DB_PER_OCTAVE + artanh * (2.0 * DB_PER_NEPER)
}

/// Writes each level's intensity and returns the levels of intensities 0 and 255, dB.
///
/// 255 is the line's highest level and 0 its lowest, or [`RANGE_DB`] below the highest if that is more. The
/// steps are even and each level is rounded to the nearest. A line of one level only has intensity 0.
pub fn quantise(levels: &[f32], intensities: &mut [u8]) -> (f32, f32) {
    /// 1.5 * 2^23: adding it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let (lowest, highest) = extremes(levels);
    let db_min = lowest.max(highest - RANGE_DB);
    let scale = if highest > db_min { 255.0 / (highest - db_min) } else { 0.0 };
    for (intensity, level) in intensities.iter_mut().zip(levels) {
        let step = ((level - db_min) * scale).clamp(0.0, 255.0);
        *intensity = (step + ROUND).to_bits() as u8;
    }
    (db_min, highest)
}

/// Lowest and highest level; both [`FLOOR_DB`] when there is none.
fn extremes(levels: &[f32]) -> (f32, f32) {
    const LANES: usize = 8;
    let Some(&first) = levels.first() else {
        return (FLOOR_DB, FLOOR_DB);
    };
    let (mut low, mut high) = ([first; LANES], [first; LANES]);
    let chunks = levels.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            low[lane] = if chunk[lane] < low[lane] { chunk[lane] } else { low[lane] };
            high[lane] = if chunk[lane] > high[lane] { chunk[lane] } else { high[lane] };
        }
    }
    (
        low.iter().chain(rest).copied().fold(first, f32::min),
        high.iter().chain(rest).copied().fold(first, f32::max),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        nfft: usize,
        hop: usize,
        samples: Vec<f32>,
        magnitudes: Vec<Vec<f64>>,
    }

    #[test]
    fn equals_scipy() {
        let golden: Golden =
            serde_json::from_str(include_str!("../../tests/golden/spectrogram.json")).unwrap();
        let bins = golden.nfft / 2 + 1;
        let mut spectrogram = Spectrogram::new(golden.nfft, 0..bins);
        let (mut one, mut other) = (vec![0.0; bins], vec![0.0; bins]);
        let mut worst = 0.0_f64;
        let window = |line: usize| &golden.samples[line * golden.hop..][..golden.nfft];
        for (line, expected) in golden.magnitudes.iter().enumerate() {
            // Alone, and as either half of a pair.
            let partner = window((line * 7 + 3) % golden.magnitudes.len());
            for way in 0..3 {
                match way {
                    0 => spectrogram.levels(window(line), &mut one),
                    1 => spectrogram.levels_of_two([window(line), partner], [&mut one, &mut other]),
                    _ => spectrogram.levels_of_two([partner, window(line)], [&mut other, &mut one]),
                }
                for (level, expected) in one.iter().zip(expected) {
                    let magnitude = 10_f64.powf(f64::from(*level) / 20.0);
                    worst = worst.max((magnitude / expected - 1.0).abs());
                }
            }
        }
        println!("largest relative difference from scipy: {worst:.1e}");
        assert!(golden.magnitudes.len() > 20 && worst < 1e-4, "{worst}");
    }

    #[test]
    fn a_sine_reads_half_its_amplitude() {
        let sine: Vec<f32> =
            (0..256).map(|n| 8.0 * (2.0 * std::f32::consts::PI * 32.0 * n as f32 / 256.0).sin()).collect();
        let mut levels = [0.0; 3];
        Spectrogram::new(256, 31..34).levels(&sine, &mut levels);
        for (level, expected) in levels.iter().zip([2.0_f32, 4.0, 2.0]) {
            assert!((level - 20.0 * expected.log10()).abs() < 1e-4, "{levels:?}");
        }
    }

    #[test]
    fn a_pair_keeps_to_itself() {
        let sine = |amplitude: f32, bin: f32| -> Vec<f32> {
            (0..256)
                .map(|n| amplitude * (2.0 * std::f32::consts::PI * bin * n as f32 / 256.0).sin())
                .collect()
        };
        let (mut loud, mut quiet) = ([0.0; 129], [0.0; 129]);
        let mut spectrogram = Spectrogram::new(256, 0..129);
        spectrogram.levels_of_two([&sine(1e3, 50.0), &sine(1.0, 32.0)], [&mut loud, &mut quiet]);
        assert!((loud[50] - 20.0 * 500_f32.log10()).abs() < 1e-3);
        assert!(
            (quiet[32] - 20.0 * 0.5_f32.log10()).abs() < 1e-2 && quiet[50] < loud[50] - 120.0,
            "{quiet:?}"
        );
        let mut broken = sine(1.0, 50.0);
        broken[7] = f32::INFINITY;
        spectrogram.levels_of_two([&broken, &sine(1.0, 32.0)], [&mut loud, &mut quiet]);
        assert!(loud[50] < -199.0 && (quiet[32] - 20.0 * 0.5_f32.log10()).abs() < 1e-3);
    }

    #[test]
    fn the_logarithm_keeps_its_bound() {
        let mut worst = 0.0_f64;
        let mut power = 1e-20_f32;
        while power < 1e30 {
            worst = worst.max((f64::from(power_db(power)) - 10.0 * f64::from(power).log10()).abs());
            power *= 1.000_37;
        }
        println!("largest error of power_db: {worst:.1e} dB");
        assert!(worst < 5e-5, "{worst}");
    }

    #[test]
    fn silence_and_broken_samples_read_the_floor() {
        for power in [0.0, -0.0, 1e-30, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 4.0] {
            assert!((power_db(power) - FLOOR_DB).abs() < 5e-5, "{power}");
        }
        let mut levels = [0.0; 65];
        Spectrogram::new(128, 0..65).levels(&[f32::NAN; 128], &mut levels);
        assert!(levels.iter().all(|level| (level - FLOOR_DB).abs() < 5e-5));
    }

    #[test]
    fn intensities_span_the_line() {
        type Case = (&'static [f32], (f32, f32), &'static [u8]);
        let cases: [Case; 5] = [
            (&[-10.0, 0.0, 10.0], (-10.0, 10.0), &[0, 128, 255]),
            (&[5.0, 5.0], (5.0, 5.0), &[0, 0]),
            (&[-200.0, 0.0, 40.0, -80.0], (-80.0, 40.0), &[0, 170, 255, 0]),
            (&[3.0; 20], (3.0, 3.0), &[0; 20]),
            (&[], (FLOOR_DB, FLOOR_DB), &[]),
        ];
        for (levels, range, expected) in cases {
            let mut intensities = vec![7; levels.len()];
            assert_eq!(quantise(levels, &mut intensities), range);
            assert_eq!(intensities, expected);
        }
    }

    #[test]
    fn intensities_lose_at_most_half_a_step() {
        let levels: Vec<f32> = (0..1001).map(|i| -60.0 + 0.1 * i as f32).collect();
        let mut intensities = vec![0; levels.len()];
        let (low, high) = quantise(&levels, &mut intensities);
        for (level, intensity) in levels.iter().zip(intensities) {
            let back = low + (high - low) * f32::from(intensity) / 255.0;
            assert!((back - level).abs() <= (high - low) / 510.0 + 1e-4, "{level} came back as {back}");
        }
    }
}
