//! How many lines of a full-size view one core computes: `cargo bench --bench spectrogram`.
//!
//! 2500 channels at 1 kHz, windows of 1024 samples, 100 lines/s, all 513 frequencies. The floor is the same
//! Fourier transforms, one for two channels, alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use focus_operator::analyzer::bench::FullView;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex32;

const CHANNELS: i32 = 2500;
const NFFT: usize = 1024;
const LINES_PER_SECOND: f64 = 100.0;
const RUN: Duration = Duration::from_secs(5);

/// Time that this thread has had on a processor, which other work on the machine does not lengthen.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Calls `line` for a while and returns how often it ran per second of processor time.
fn rate(mut line: impl FnMut(u64)) -> f64 {
    line(0);
    let (begun, before) = (Instant::now(), processor_time());
    let mut count = 0;
    while begun.elapsed() < RUN {
        count += 1;
        line(count);
    }
    let spent = match (before, processor_time()) {
        (Some(before), Some(after)) => after - before,
        _ => begun.elapsed(),
    };
    count as f64 / spent.as_secs_f64()
}

fn main() {
    // `cargo test --benches` only asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut view = FullView::new(CHANNELS, NFFT, LINES_PER_SECOND);
    let lines = rate(|index| view.line(index));
    let fft = FftPlanner::<f32>::new().plan_fft_forward(NFFT);
    let mut input: Vec<_> = (0..NFFT).map(|n| Complex32::new((n as f32 * 0.1).sin(), 0.5)).collect();
    let mut output = vec![Complex32::default(); NFFT];
    let mut scratch = vec![Complex32::default(); fft.get_outofplace_scratch_len()];
    let floor = rate(|_| {
        for _ in 0..CHANNELS / 2 {
            fft.process_outofplace_with_scratch(&mut input, &mut output, &mut scratch);
            black_box((&mut input, &mut output));
        }
    });
    println!("view:  {CHANNELS} channels x {} frequencies, window {NFFT}, 1 kHz", NFFT / 2 + 1);
    println!("lines: {lines:.0} /s on one core, {:.2} x real time", lines / LINES_PER_SECOND);
    println!("floor: {floor:.0} /s with the transforms alone, {:.2} x real time", floor / LINES_PER_SECOND);
    println!("ratio: {:.2} of the floor", lines / floor);
}
