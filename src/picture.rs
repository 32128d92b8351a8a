//! `focus picture`: draws what a client of the Focus Server receives, as a PNG.
//!
//! Two panels, time downwards: on the left the spectrogram averaged over the channels (frequency to the right), on
//! the right the level of each channel averaged over the frequencies (channel to the right).

use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// Width of each panel and height of both, pixels.
const PANEL: (usize, usize) = (480, 480);
/// Between the panels, pixels.
const GAP: usize = 12;
/// How long the server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Command line of `focus picture`.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The Focus Server.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    server: String,
    /// The job whose lines are drawn.
    #[arg(long)]
    job: String,
    /// How many of the newest rows.
    #[arg(long, default_value_t = 200)]
    rows: u32,
    /// Where the picture goes.
    #[arg(long, default_value = "spectrogram.png")]
    out: PathBuf,
}

#[derive(Deserialize)]
struct Block {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    sensors: Vec<Sensor>,
}

#[derive(Deserialize)]
struct Sensor {
    intensity: Vec<f32>,
}

/// Levels, dB: one row for each moment.
type Levels = Vec<Vec<f32>>;

/// Fetches the newest rows of a job and draws them.
///
/// # Errors
/// When the server has no rows for the job, or the file cannot be written.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let url = format!("{}/focus-server/waterfall/{}/{}", args.server, args.job, args.rows);
    let client =
        reqwest::Client::builder().timeout(ANSWER_WITHIN).build().context("making an HTTP client")?;
    let answer = client.get(&url).send().await.with_context(|| format!("asking {url}"))?;
    ensure!(answer.status() == 201, "{url} answered {}: there is nothing to draw yet", answer.status());
    let blocks: Vec<Block> = answer.json().await.with_context(|| format!("reading the rows of {url}"))?;
    let rows: Vec<Row> = blocks.into_iter().flat_map(|block| block.rows).collect();
    let (width, height, pixels) = draw(&over_channels(&rows), &over_frequencies(&rows));
    write(&args.out, width, height, &pixels).with_context(|| format!("writing {}", args.out.display()))?;
    println!("{}: {} rows of {}", args.out.display(), rows.len(), args.job);
    Ok(())
}

/// For each row, the mean over its channels at each frequency.
fn over_channels(rows: &[Row]) -> Levels {
    let mean = |row: &Row| {
        let bins = row.sensors.first().map_or(0, |sensor| sensor.intensity.len());
        let count = row.sensors.len().max(1) as f32;
        (0..bins).map(|bin| row.sensors.iter().map(|s| s.intensity[bin]).sum::<f32>() / count).collect()
    };
    rows.iter().map(mean).collect()
}

/// For each row, the mean over the frequencies of each channel.
fn over_frequencies(rows: &[Row]) -> Levels {
    let mean = |sensor: &Sensor| sensor.intensity.iter().sum::<f32>() / sensor.intensity.len().max(1) as f32;
    rows.iter().map(|row| row.sensors.iter().map(mean).collect()).collect()
}

/// Both panels side by side: width, height and RGB pixels.
fn draw(left: &Levels, right: &Levels) -> (usize, usize, Vec<u8>) {
    let (width, height) = (PANEL.0 * 2 + GAP, PANEL.1);
    let mut pixels = vec![255; width * height * 3];
    for (panel, levels) in [left, right].into_iter().enumerate() {
        let (low, high) = contrast(levels);
        for y in 0..height {
            let Some(row) = levels.get(y * levels.len() / height) else { continue };
            for x in 0..PANEL.0 {
                let Some(level) = row.get(x * row.len() / PANEL.0) else { continue };
                let at = (y * width + panel * (PANEL.0 + GAP) + x) * 3;
                pixels[at..at + 3].copy_from_slice(&colour((level - low) / (high - low).max(1e-6)));
            }
        }
    }
    (width, height, pixels)
}

/// The 2nd and the 99.5th percentile: what lies outside is drawn as the darkest and the brightest.
fn contrast(levels: &Levels) -> (f32, f32) {
    let mut all: Vec<f32> = levels.iter().flatten().copied().collect();
    all.sort_by(f32::total_cmp);
    let at = |part: f64| all.get(((all.len() as f64 - 1.0) * part).max(0.0) as usize).copied().unwrap_or(0.0);
    (at(0.02), at(0.995))
}

/// From dark blue by way of green to yellow, for 0 to 1.
fn colour(value: f32) -> [u8; 3] {
    const STOPS: [[f32; 3]; 5] = [
        [20.0, 8.0, 60.0],
        [40.0, 70.0, 140.0],
        [30.0, 145.0, 140.0],
        [110.0, 200.0, 90.0],
        [253.0, 231.0, 40.0],
    ];
    let scaled = value.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let below = (scaled as usize).min(STOPS.len() - 2);
    let part = scaled - below as f32;
    std::array::from_fn(|i| (STOPS[below][i] + (STOPS[below + 1][i] - STOPS[below][i]) * part) as u8)
}

fn write(path: &std::path::Path, width: usize, height: usize, pixels: &[u8]) -> anyhow::Result<()> {
    let file = BufWriter::new(std::fs::File::create(path)?);
    let mut encoder = png::Encoder::new(file, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loudest_channel_is_the_brightest_and_at_its_place() {
        let sensor = |level| Sensor { intensity: vec![level; 4] };
        let row = || Row { sensors: vec![sensor(-90.0), sensor(-90.0), sensor(-20.0), sensor(-90.0)] };
        let rows: Vec<Row> = (0..10).map(|_| row()).collect();
        let levels = over_frequencies(&rows);
        assert_eq!(levels[0], vec![-90.0, -90.0, -20.0, -90.0]);
        let (width, _, pixels) = draw(&over_channels(&rows), &levels);
        let at = |x: usize| pixels[(5 * width + PANEL.0 + GAP + x) * 3];
        assert!(at(PANEL.0 * 5 / 8) > at(PANEL.0 / 8), "channel 3 of 4 outshines channel 1");
    }

    #[test]
    fn silence_is_drawn_without_a_division_by_zero() {
        let rows = [Row { sensors: vec![Sensor { intensity: vec![0.0] }] }];
        let (width, height, pixels) = draw(&over_channels(&rows), &over_frequencies(&rows));
        assert_eq!(pixels.len(), width * height * 3);
    }
}
