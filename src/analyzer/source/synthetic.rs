//! A computed fibre: traffic that passes along it, a leak that hums, and noise.
//!
//! Every sample is a function of channel and sample index alone, so that all views and all restarts agree.

use std::ops::Range;

use super::Rows;
use crate::api::AnalyzerSource;

/// Samples in the tables of waveforms; a power of two.
const TABLE: usize = 4096;
/// Amplitudes are computed every so many samples and interpolated between.
const SEGMENT: u64 = 64;
/// Standard deviation of the noise is about 0.4 of this.
const NOISE: f32 = 1.0;
/// Amplitude of the leak at its own channel.
const LEAK: f32 = 8.0;
/// Frequency of the leak as a part of the sample rate.
const LEAK_FREQUENCY: f64 = 0.18;
/// Where the leak is, as a part of the fibre, and how far it is heard, m.
const LEAK_POSITION: (f64, f64) = (0.62, 6.0);

/// One vehicle, which starts over when it has left the fibre.
struct Vehicle {
    /// Where it is at sample 0, as a part of its round.
    start: f64,
    /// m/s; negative towards channel 1.
    speed: f64,
    /// Length of the stretch that it shakes, m.
    reach: f64,
    /// Amplitude at its own position.
    strength: f32,
}

const VEHICLES: [Vehicle; 5] = [
    Vehicle { start: 0.10, speed: 13.9, reach: 8.0, strength: 20.0 },
    Vehicle { start: 0.45, speed: 22.2, reach: 10.0, strength: 30.0 },
    Vehicle { start: 0.80, speed: -16.7, reach: 8.0, strength: 18.0 },
    Vehicle { start: 0.30, speed: -25.0, reach: 14.0, strength: 45.0 },
    Vehicle { start: 0.65, speed: 1.4, reach: 3.0, strength: 6.0 },
];

/// The computed source for the channels of one view.
pub struct Synthetic {
    rate_hz: f64,
    dx_m: f64,
    length_m: f64,
    channels: Range<usize>,
    /// A sweep over the lower half of the band with the roughness of an engine.
    engine: Vec<f32>,
    sine: Vec<f32>,
}

impl Synthetic {
    /// The source for `channels`, counted from 0.
    pub fn new(declared: &AnalyzerSource, channels: Range<usize>) -> Self {
        let turn = |n: usize| 2.0 * std::f64::consts::PI * n as f64 / TABLE as f64;
        // The sweep's phase ends on a whole number of turns, so that the table repeats without a step.
        let sweep = |n: usize| (turn(n) * (40.0 + 500.0 * (n as f64 / TABLE as f64))).sin();
        let rough = |n: usize| f64::from(noise(noise_seed(usize::MAX, 0), n as u32));
        Self {
            rate_hz: declared.sample_rate_hz,
            dx_m: declared.dx_meters,
            length_m: declared.dx_meters * f64::from(declared.channels.max(1)),
            channels,
            engine: (0..TABLE).map(|n| (0.6 * sweep(n) + 0.4 * rough(n)) as f32).collect(),
            sine: (0..TABLE).map(|n| turn(n).sin() as f32).collect(),
        }
    }

    /// Writes the samples from `first` on.
    pub fn read(&self, first: u64, rows: &mut Rows<'_>) {
        for (channel, row) in self.channels.clone().zip(rows.iter_mut()) {
            let mut index = first;
            let mut rest = row;
            while !rest.is_empty() {
                let take = rest.len().min((SEGMENT - index % SEGMENT) as usize);
                let (part, after) = rest.split_at_mut(take);
                self.segment(channel, index, part);
                index += take as u64;
                rest = after;
            }
        }
    }

    /// Writes samples that lie within one segment of a channel.
    fn segment(&self, channel: usize, first: u64, samples: &mut [f32]) {
        let seed = noise_seed(channel, (first >> 32) as u32);
        for (sample, index) in samples.iter_mut().zip(first as u32..) {
            *sample = NOISE * noise(seed, index);
        }
        let at = channel as f64 * self.dx_m;
        let leak = LEAK * gain(at - LEAK_POSITION.0 * self.length_m, LEAK_POSITION.1);
        if leak > 0.0 {
            self.add_leak(leak, first, samples);
        }
        let start = first - first % SEGMENT;
        for vehicle in &VEHICLES {
            let from = vehicle.strength * gain(at - self.position(vehicle, start), vehicle.reach);
            let to = vehicle.strength * gain(at - self.position(vehicle, start + SEGMENT), vehicle.reach);
            if from > 0.0 || to > 0.0 {
                self.add_vehicle(from, to, channel, first, samples);
            }
        }
    }

    /// Where a vehicle is at a sample, m from channel 1.
    fn position(&self, vehicle: &Vehicle, index: u64) -> f64 {
        // The round is longer than the fibre, so that a vehicle comes and goes instead of jumping.
        let round = self.length_m + 8.0 * vehicle.reach;
        let travelled = vehicle.start * round + vehicle.speed * (index as f64 / self.rate_hz);
        travelled.rem_euclid(round) - 4.0 * vehicle.reach
    }

    fn add_leak(&self, amplitude: f32, first: u64, samples: &mut [f32]) {
        /// Fixed point: 2^32 is one turn, which wraps by itself.
        const STEP: u32 = (LEAK_FREQUENCY * 4_294_967_296.0) as u32;
        let mut phase = (first as u32).wrapping_mul(STEP);
        for sample in samples {
            *sample += amplitude * self.sine[(phase >> 20) as usize % TABLE];
            phase = phase.wrapping_add(STEP);
        }
    }

    fn add_vehicle(&self, from: f32, to: f32, channel: usize, first: u64, samples: &mut [f32]) {
        let slope = (to - from) / SEGMENT as f32;
        // Neighbouring channels hear the same wave some samples later.
        let delayed = (first as usize).wrapping_add(7 * channel);
        // Each amplitude from the index alone: a running sum would depend on where the stretch begins.
        for (n, sample) in samples.iter_mut().enumerate() {
            let amplitude = from + slope * (first % SEGMENT + n as u64) as f32;
            *sample += amplitude * self.engine[delayed.wrapping_add(n) % TABLE];
        }
    }
}

/// How much of a sound is heard at a distance, m: a smooth bell that is exactly 0 beyond four times its reach.
fn gain(distance: f64, reach: f64) -> f32 {
    let x = distance / (4.0 * reach);
    let rest = 1.0 - x * x;
    if rest > 0.0 { (rest * rest * rest * rest) as f32 } else { 0.0 }
}

fn noise_seed(channel: usize, epoch: u32) -> u32 {
    mix((channel as u32).wrapping_mul(0x9e37_79b9) ^ mix(epoch))
}

/// Noise between -1 and 1, the sum of two even ones.
fn noise(seed: u32, index: u32) -> f32 {
    let bits = mix(index ^ seed);
    ((bits & 0xffff) as i32 + (bits >> 16) as i32 - 0xffff) as f32 * (1.0 / 65_535.0)
}

/// Spreads each bit over all others (the finaliser of MurmurHash3).
fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn samples(channels: Range<usize>, first: u64, count: usize) -> Vec<f32> {
        let declared =
            serde_json::json!({"uri":"synthetic:","sampleRateHz":1000.0,"channels":2500,"dxMeters":1.0});
        let source = Synthetic::new(&serde_json::from_value(declared).unwrap(), channels.clone());
        let mut data = vec![0.0; channels.len() * count];
        source.read(first, &mut Rows { data: &mut data, stride: count, columns: 0..count });
        data
    }

    fn rms(samples: &[f32]) -> f32 {
        (samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32).sqrt()
    }

    #[test]
    fn a_sample_depends_on_channel_and_index_alone() {
        let first = 1_717_000_000_123;
        let whole = samples(100..110, first, 1000);
        let later = samples(105..107, first + 333, 100);
        assert_eq!(later[..100], whole[5 * 1000 + 333..][..100]);
        assert_eq!(later[100..], whole[6 * 1000 + 333..][..100]);
    }

    #[test]
    fn noise_has_no_offset_and_differs_between_channels() {
        let quiet = samples(2400..2402, 5_000_000_000, 20_000);
        let (a, b) = quiet.split_at(20_000);
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        assert!(mean.abs() < 0.01, "{mean}");
        let common = a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>() / (rms(a) * rms(b) * a.len() as f32);
        assert!(common.abs() < 0.05, "{common}");
    }

    #[test]
    fn the_leak_stays_and_vehicles_move() {
        assert!(rms(&samples(1550..1551, 0, 4096)) > 5.0, "the leak at 0.62 of 2500 m");
        // The first vehicle starts at 0.1 of its round of 2564 m and drives 13.9 m/s.
        for (seconds, channel) in [(0_u64, 224_usize), (10, 363), (60, 1058)] {
            let passing = rms(&samples(channel..channel + 1, seconds * 1000, 500));
            let far = rms(&samples(channel + 60..channel + 61, seconds * 1000, 500));
            assert!(passing > 4.0 * far, "{passing} and {far} at {seconds} s");
        }
    }
}
