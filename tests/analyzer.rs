//! The analyzer as the operator sees it: a process with an environment, a queue and an exit code.
//!
//! The tests that need RabbitMQ run when `FOCUS_TEST_BROKER_URL` names one, and say so when they are skipped.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use focus_operator::wire::{End, Frame, Header, Line, frame::Kind};
use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use prost::Message;

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/prodml_channels_first.h5");
const LIMIT: Duration = Duration::from_secs(20);

fn recording_source(query: &str) -> String {
    format!(r#"{{"uri":"file://{RECORDING}{query}","sampleRateHz":100,"channels":4,"dxMeters":2}}"#)
}

fn spec(max_channel: i32, max_hz: i32, nfft: i32) -> String {
    format!(
        r#"{{"viewType":"MultiChannel","channels":{{"min":1,"max":{max_channel}}},"nfftSelection":{nfft},
            "frequencyRange":{{"min":0,"max":{max_hz}}},"displayTimeAxisDuration":10,"displayInfo":{{"height":100}}}}"#
    )
}

/// An analyzer process; killed when the test is over.
struct Analyzer {
    child: Child,
    log: PathBuf,
}

impl Analyzer {
    fn start(name: &str, spec: &str, source: &str, queue: &str, broker_url: &str) -> Self {
        let log = std::env::temp_dir().join(format!("focus-analyzer-{name}-{}", std::process::id()));
        std::fs::write(&log, "").unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_focus"))
            .arg("analyzer")
            .env("FOCUS_SPEC", spec)
            .env("FOCUS_SOURCE", source)
            .env("FOCUS_QUEUE", queue)
            .env("FOCUS_BROKER_URL", broker_url)
            .env("FOCUS_JOB_NAME", name)
            .env("FOCUS_JOB_NAMESPACE", "test")
            .env("FOCUS_JOB_UID", "uid-1")
            .env("FOCUS_HEALTH_ADDR", "127.0.0.1:0")
            .env("FOCUS_TERMINATION_LOG", &log)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn terminate(&self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
    }

    fn exit(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the analyzer did not end");
    }

    fn last_words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Analyzer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

#[test]
fn input_that_cannot_work_ends_with_65_and_one_sentence() {
    let missing =
        r#"{"uri":"file:///nonexistent.h5","sampleRateHz":100,"channels":4,"dxMeters":2}"#.to_owned();
    let faster = recording_source("").replace("\"sampleRateHz\":100", "\"sampleRateHz\":1000");
    let cases = [
        ("short", spec(4, 50, 512), recording_source(""), 65, "RecordingTooShort: opening recording "),
        ("channel", spec(5, 50, 256), recording_source(""), 65, "ChannelOutOfRange: starting the view: "),
        ("rate", spec(4, 50, 256), faster, 65, "SampleRateMismatch: opening recording "),
        ("missing", spec(4, 50, 256), missing, 65, "SourceUnreadable: opening recording /nonexistent.h5: "),
        (
            "json",
            "{".to_owned(),
            recording_source(""),
            64,
            "BadEnvironment: reading the environment: FOCUS_SPEC",
        ),
    ];
    for (name, spec, source, code, sentence) in cases {
        // Nothing listens on port 1: the broker is of no account here.
        let mut analyzer = Analyzer::start(name, &spec, &source, "q", "amqp://user:secret@127.0.0.1:1/%2f");
        assert_eq!(analyzer.exit().code(), Some(code), "{name}");
        let words = analyzer.last_words();
        assert!(words.starts_with(sentence) && words.lines().count() == 1, "{words}");
        assert!(!words.contains("secret"), "{words}");
    }
}

#[test]
fn a_broker_that_is_away_is_waited_for_until_sigterm() {
    let url = "amqp://user:secret@127.0.0.1:1/%2f";
    let mut analyzer = Analyzer::start("away", &spec(4, 50, 256), &recording_source("?loop=false"), "q", url);
    // The recording is over after 0.4 s, and the analyzer stays to deliver it.
    std::thread::sleep(Duration::from_secs(1));
    assert!(analyzer.child.try_wait().unwrap().is_none());
    let begun = Instant::now();
    analyzer.terminate();
    assert_eq!(analyzer.exit().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recordings/");
/// When the recordings begin: 2026-01-01T00:00:00Z, s.
const T: i64 = 1_767_225_600;

/// Windows of 256 samples, a line each 0.1 s, from `start` to `end` after [`T`].
fn historic(start: i64, end: i64) -> String {
    let times = format!(r#","startTime":{},"endTime":{}}}"#, T + start, T + end);
    let spec = spec(4, 50, 256);
    format!("{}{times}", spec.strip_suffix('}').unwrap())
}

fn past_source(options: &str) -> String {
    format!(
        r#"{{"uri":"synthetic:","recordings":"file://{RECORDINGS}{options}","sampleRateHz":100,"channels":4,"dxMeters":2}}"#
    )
}

#[test]
fn a_time_that_cannot_be_shown_ends_with_65_and_one_sentence() {
    let live_only = past_source("").replace("\"recordings\"", "\"ignored\"");
    let past_only = past_source("").replace("\"synthetic:\"", &format!("\"file://{RECORDINGS}\""));
    let cases = [
        ("none", historic(100, 200), past_source(""), "NoRecording: opening recordings: "),
        ("other", historic(60, 65), past_source(""), "ChannelCountMismatch: opening recording "),
        ("brief", historic(0, 2), past_source(""), "RecordingTooShort: opening recording "),
        ("unheard", historic(0, 5), live_only, "HistoricViewUnsupported: starting the view: "),
        ("live", spec(4, 50, 256), past_only, "LiveViewUnsupported: starting the view: "),
        ("speed", historic(0, 5), past_source("?speed=fast"), "SourceUriInvalid: opening source "),
    ];
    for (name, spec, source, sentence) in cases {
        let mut analyzer = Analyzer::start(name, &spec, &source, "q", "amqp://user:secret@127.0.0.1:1/%2f");
        assert_eq!(analyzer.exit().code(), Some(65), "{name}");
        let words = analyzer.last_words();
        assert!(words.starts_with(sentence) && words.lines().count() == 1, "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_historic_view_is_played_at_its_pace_over_its_gap_to_its_end() {
    let Some(queue) = Queue::new("historic").await else { return };
    let mut consumer = queue.consume().await;
    let begun = Instant::now();
    // 5 s to the gap, 3 s after it; twice as fast as it happened.
    let source = past_source("?speed=2");
    let mut analyzer = Analyzer::start("historic", &historic(5, 33), &source, &queue.name, &queue.url);
    let (headers, lines, end) = received(&mut consumer, usize::MAX).await;
    assert_eq!((headers[0].dtype.as_str(), headers[0].source_channels), ("int16", 4));
    // Windows last 2.56 s: 25 of them lie before the gap, 5 after it.
    let indices: Vec<_> = lines.iter().map(|line| line.index).collect();
    assert_eq!(indices, (0..30).collect::<Vec<u64>>());
    let from = |line: &Line| line.start_us - T * 1_000_000;
    let starts: Vec<_> = [0, 1, 24, 25, 29].map(|i| from(&lines[i])).to_vec();
    assert_eq!(starts, [5_000_000, 5_100_000, 7_400_000, 30_000_000, 30_400_000]);
    assert!(lines.iter().all(|line| line.end_us - line.start_us == 2_560_000 && line.dropped_total == 0));
    assert_eq!(end.unwrap().reason, "Completed");
    assert_eq!(analyzer.exit().code(), Some(0));
    // 30 lines, 0.1 s apart.
    assert!(begun.elapsed() >= Duration::from_millis(1450), "{:?}", begun.elapsed());
}

/// A queue of the test's own on a real broker.
struct Queue {
    url: String,
    name: String,
    channel: Channel,
    _connection: Connection,
}

impl Queue {
    async fn new(name: &str) -> Option<Self> {
        let Ok(url) = std::env::var("FOCUS_TEST_BROKER_URL") else {
            println!("skipped: name a RabbitMQ in FOCUS_TEST_BROKER_URL");
            return None;
        };
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let name = format!("focus-test-analyzer-{name}-{}", std::process::id());
        Some(Self { url, name, channel, _connection: connection })
    }

    async fn consume(&self) -> Consumer {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(self.name.as_str().into(), options, FieldTable::default()).await.unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        self.channel
            .basic_consume(self.name.as_str().into(), "test".into(), options, FieldTable::default())
            .await
            .unwrap()
    }

    async fn delete(&self) {
        self.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }
}

async fn next(consumer: &mut Consumer) -> Kind {
    let delivery = tokio::time::timeout(LIMIT, consumer.next()).await.unwrap().unwrap().unwrap();
    Frame::decode(delivery.data.as_slice()).unwrap().kind.unwrap()
}

/// Headers, lines and end, up to `lines` lines or the end.
async fn received(consumer: &mut Consumer, lines: usize) -> (Vec<Header>, Vec<Line>, Option<End>) {
    let (mut headers, mut all, mut end) = (Vec::new(), Vec::new(), None);
    while all.len() < lines && end.is_none() {
        match next(consumer).await {
            Kind::Header(header) => headers.push(header),
            Kind::Line(line) => all.push(line),
            Kind::End(message) => end = Some(message),
        }
    }
    (headers, all, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_played_once_arrives_whole() {
    let Some(queue) = Queue::new("once").await else { return };
    let mut consumer = queue.consume().await;
    let source = recording_source("?loop=false");
    let mut analyzer = Analyzer::start("once", &spec(4, 50, 256), &source, &queue.name, &queue.url);
    let Kind::Header(header) = next(&mut consumer).await else { panic!("the header comes first") };
    assert_eq!((header.job_uid.as_str(), header.nfft, header.dtype.as_str()), ("uid-1", 256, "int16"));
    assert_eq!((header.frequencies_hz.len(), header.lines_dt_s), (129, 0.1));
    let (_, lines, end) = received(&mut consumer, usize::MAX).await;
    assert_eq!(lines.iter().map(|line| line.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(lines.iter().all(|line| line.intensities.len() == 4 * 129 && line.dropped_total == 0));
    assert!(lines.windows(2).all(|pair| pair[1].start_us - pair[0].start_us == 100_000));
    assert_eq!(end.unwrap().reason, "Completed");
    assert_eq!(analyzer.exit().code(), Some(0));
    assert_eq!(analyzer.last_words(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_comes_late_and_goes_is_found_again() {
    let Some(queue) = Queue::new("late").await else { return };
    let source = r#"{"uri":"synthetic:","sampleRateHz":1000,"channels":50,"dxMeters":1}"#;
    let mut analyzer = Analyzer::start("late", &spec(50, 500, 1024), source, &queue.name, &queue.url);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut consumer = queue.consume().await;
    let (headers, lines, _) = received(&mut consumer, 5).await;
    assert!(!headers.is_empty() && lines[0].index == 0, "what was computed meanwhile is kept");
    queue.delete().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut consumer = queue.consume().await;
    let (headers, lines, _) = received(&mut consumer, 12).await;
    assert!(!headers.is_empty() && lines[0].index > 4);
    let begun = Instant::now();
    analyzer.terminate();
    let (_, _, end) = received(&mut consumer, usize::MAX).await;
    assert_eq!(end.unwrap().reason, "Terminated");
    assert_eq!(analyzer.exit().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_line_is_there_at_once() {
    let Some(queue) = Queue::new("first").await else { return };
    let mut consumer = queue.consume().await;
    let source = r#"{"uri":"synthetic:","sampleRateHz":1000,"channels":50,"dxMeters":1}"#;
    let begun = Instant::now();
    let _analyzer = Analyzer::start("first", &spec(50, 500, 1024), source, &queue.name, &queue.url);
    received(&mut consumer, 1).await;
    println!("first line {:?} after the start of the process", begun.elapsed());
    // A window alone lasts 1.024 s: nobody waits for it.
    assert!(begun.elapsed() < Duration::from_secs(1));
}
