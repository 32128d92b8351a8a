//! How many lines of a full-size view one core computes: `cargo bench --bench spectrogram`.
//!
//! 2500 channels at 1 kHz, windows of 1024 samples, 100 lines/s, all 513 frequencies. The floor is the same
//! Fourier transforms alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use focus_operator::analyzer::bench::FullView;
use realfft::RealFftPlanner;

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
    let fft = RealFftPlanner::<f32>::new().plan_fft_forward(NFFT);
    let signal: Vec<f32> = (0..NFFT).map(|n| (n as f32 * 0.1).sin()).collect();
    let (mut input, mut output, mut scratch) =
        (fft.make_input_vec(), fft.make_output_vec(), fft.make_scratch_vec());
    let floor = rate(|_| {
        for _ in 0..CHANNELS {
            input.copy_from_slice(&signal);
            fft.process_with_scratch(&mut input, &mut output, &mut scratch).expect("sizes fit");
            black_box(&output);
        }
    });
    println!("view:  {CHANNELS} channels x {} frequencies, window {NFFT}, 1 kHz", NFFT / 2 + 1);
    println!("lines: {lines:.0} /s on one core, {:.2} x real time", lines / LINES_PER_SECOND);
    println!("floor: {floor:.0} /s with the transforms alone, {:.2} x real time", floor / LINES_PER_SECOND);
    println!("ratio: {:.2} of the floor", lines / floor);
}
