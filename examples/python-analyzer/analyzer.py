"""A minimal analyzer: a computed fibre, its spectrogram lines, the job's queue.

It keeps to docs/analyzer-contract.md. For a source of your own, write another `Fibre`; the rest can stay.
"""

import signal
import threading

# Before the large imports: the first process of a container that has not asked for SIGTERM never gets it.
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())

import itertools
import json
import logging
import os
import random
import ssl
import sys
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy
import pika
from pika.exceptions import AMQPError, UnroutableError

import focus_pb2

GRACE = 1.5  # s from SIGTERM to the exit, at the latest
HEADER_PERIOD = 0.5  # s
log = logging.getLogger("analyzer")


class Failure(Exception):
    """What the operator must learn of: a CamelCase word, the exit code, a sentence."""

    def __init__(self, reason, code, sentence):
        super().__init__(f"{reason}: {sentence}")
        self.code = code


class View:
    """What the job asks for, in samples and bins; refused when it cannot work."""

    def __init__(self, spec, source):
        self.rate, self.nfft = float(source["sampleRateHz"]), int(spec["nfftSelection"])
        self.first, self.last = spec["channels"]["min"], spec["channels"]["max"]
        self.waterfall = spec["viewType"] == "Waterfall"
        if not source["uri"].startswith("synthetic:"):
            self.refuse("SourceUriInvalid", f"the source {source['uri']} is not synthetic:, and no other is read here")
        if "startTime" in spec:
            self.refuse("HistoricViewUnsupported", "there are live views alone; leave out startTime and endTime")
        if self.last > source["channels"]:
            self.refuse("ChannelOutOfRange", f"there is no channel {self.last}, only 1 to {source['channels']}")
        if self.waterfall:
            self.lines_dt, self.bins = self.nfft / self.rate, []
            return
        self.lines_dt = spec["displayTimeAxisDuration"] / spec.get("displayInfo", {}).get("height", 1000)
        low, high = spec["frequencyRange"]["min"], spec["frequencyRange"]["max"]
        if high > self.rate / 2:
            self.refuse("FrequencyOutOfRange", f"{high} Hz is above half the sample rate, {self.rate / 2} Hz")
        step = self.rate / self.nfft
        self.bins = [k for k in range(self.nfft // 2 + 1) if low <= k * step <= high]
        if not self.bins:
            self.refuse("FrequencyRangeEmpty", f"no multiple of {step} Hz lies from {low} to {high} Hz")

    @staticmethod
    def refuse(reason, why):
        raise Failure(reason, 65, f"starting the view: {why}; create a FocusJob that fits the source of its pool")

    def header(self, uid, source):
        header = focus_pb2.Header(
            job_uid=uid, sample_rate_hz=self.rate, source_channels=source["channels"], dx_m=source["dxMeters"],
            fiber_start_m=source.get("fiberStartMeters", 0.0), channel_min=self.first, channel_max=self.last,
            frequencies_hz=[k * (self.rate / self.nfft) for k in self.bins], nfft=self.nfft, lines_dt_s=self.lines_dt,
            dtype=source.get("dtype", "float32"), source_description=source.get("description", ""),
            analyzer="python-analyzer 0.1.0")
        return focus_pb2.Frame(header=header).SerializeToString()


class Fibre:
    """A computed fibre: each channel hums at an eighth of the sample rate, over noise.

    A sample depends on its channel and its number alone, so that windows which overlap agree.
    """

    def __init__(self, view):
        self.channels = numpy.arange(view.first, view.last + 1)[:, None]
        self.noise = numpy.random.default_rng(1).standard_normal(1 << 16)

    def samples(self, first, count):
        numbers = first + numpy.arange(count)
        return 10 * numpy.sin(numpy.pi / 4 * (numbers % 8)) + self.noise[(numbers + 7919 * self.channels) & 0xFFFF]


class Lines:
    """Computes lines when they are due and keeps the newest until they are published; never waits for the broker."""

    def __init__(self, view):
        self.view, self.fibre = view, Fibre(view)
        self.window = numpy.hanning(view.nfft + 1)[:-1]
        size = (view.last - view.first + 1) * (len(view.bins) or 1)
        self.waiting, self.most = deque(), max(1, min(1024, (64 << 20) // size))
        self.arrived, self.dropped = threading.Condition(), 0

    def run(self):
        view = self.view
        # The first window is complete already: it began one window ago.
        began, began_clock = time.time() - view.nfft / view.rate, time.monotonic() - view.nfft / view.rate
        first = int(began * view.rate)
        for index in itertools.count():
            start = int(index * view.lines_dt * view.rate + 0.5)
            late = time.monotonic() - (began_clock + (start + view.nfft) / view.rate)
            if stop.wait(max(0.0, -late)):
                return
            if late > 2:  # the processor is too slow
                self.drop()
                continue
            line = self.line(self.fibre.samples(first + start, view.nfft))
            line.index, line.start_us = index, int((began + start / view.rate) * 1e6)
            line.end_us = line.start_us + int(view.nfft / view.rate * 1e6)
            with self.arrived:
                self.waiting.append(line)
                if len(self.waiting) > self.most:
                    self.waiting.popleft()
                    self.dropped += 1
                self.arrived.notify()

    def line(self, samples):
        if self.view.waterfall:
            amplitudes = numpy.sqrt(numpy.mean(samples**2, axis=1))
        else:
            amplitudes = abs(numpy.fft.rfft(samples * self.window)[:, self.view.bins]) / self.window.sum()
        levels = 20 * numpy.log10(numpy.maximum(amplitudes, 1e-10))  # not below -200 dB
        high = float(levels.max())
        low = max(float(levels.min()), high - 120)
        steps = (numpy.clip(levels, low, high) - low) * (255 / max(high - low, 1e-9))
        return focus_pb2.Line(db_min=low, db_max=high, intensities=numpy.rint(steps).astype(numpy.uint8).tobytes())

    def drop(self):
        with self.arrived:
            self.dropped += 1

    def next(self, seconds):
        """The oldest line; None when there is none for so long."""
        with self.arrived:
            self.arrived.wait_for(lambda: self.waiting, seconds)
            return self.waiting.popleft() if self.waiting else None


class Publisher:
    """Brings header, lines and end to the queue, through every failure of the broker."""

    def __init__(self, queue, header, lines):
        self.queue, self.header, self.lines = queue, header, lines
        self.published, self.confirmed_at, self.awaited = 0, None, "the broker: connecting"

    def run(self):
        pause = 0.02
        while True:
            began = time.monotonic()
            try:
                with pika.BlockingConnection(broker_parameters()) as connection:
                    return self.session(connection)
            except (AMQPError, OSError) as error:
                self.confirmed_at, self.awaited = None, f"the broker: {type(error).__name__} {error}".rstrip()
                log.warning("session with the broker ended: %s", self.awaited)
            pause = 0.02 if time.monotonic() - began > 10 else min(2 * pause, 5)
            time.sleep(pause * random.uniform(0.5, 1))

    def session(self, connection):
        channel = connection.channel()
        channel.confirm_delivery()
        self.await_queue(channel)
        header_due = time.monotonic() + HEADER_PERIOD
        while True:
            if time.monotonic() >= header_due:
                self.publish(channel, self.header, mandatory=True)
                header_due = time.monotonic() + HEADER_PERIOD
            line = self.lines.next(0.02)
            if line:
                self.publish_line(channel, line)
            elif stop.is_set():
                end = focus_pb2.End(reason="Terminated", message="The analyzer was told to stop.")
                return self.publish(channel, focus_pb2.Frame(end=end).SerializeToString())
            else:
                connection.process_data_events(0)

    def await_queue(self, channel):
        """Publishes headers until one is not returned: then the operator has declared the queue."""
        pause = 0.005
        while not stop.is_set():
            try:
                return self.publish(channel, self.header, mandatory=True)
            except UnroutableError:
                self.awaited = f"queue {self.queue}: not declared"
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 0.25)

    def publish_line(self, channel, line):
        line.dropped_total = self.lines.dropped
        try:
            self.publish(channel, focus_pb2.Frame(line=line).SerializeToString())
        except Exception:
            self.lines.drop()
            raise
        self.published += 1

    def publish(self, channel, body, mandatory=False):
        """Publishes and waits for the broker's confirm."""
        channel.basic_publish("", self.queue, body, pika.BasicProperties(delivery_mode=1), mandatory)
        self.confirmed_at = time.monotonic()

    def not_ready(self):
        if self.confirmed_at is None:
            return self.awaited
        silent = time.monotonic() - self.confirmed_at
        return f"the broker: no confirm for {silent:.0f} s" if silent > 5 else ""


def broker_parameters():
    """Where the broker is. The address is a secret: no error shows it."""
    try:
        url = os.environ.get("FOCUS_BROKER_URL")
        if not url:
            with open(os.environ["FOCUS_BROKER_URL_FILE"]) as file:
                url = file.read().strip()
        if not url.startswith(("amqp://", "amqps://")):
            raise ValueError("the scheme")
        parameters = pika.URLParameters(url)
        if parameters.ssl_options:
            context = ssl.create_default_context()
            if ca := os.environ.get("FOCUS_BROKER_CA"):
                context.load_verify_locations(ca)
            if certificate := os.environ.get("FOCUS_BROKER_CERT"):
                context.load_cert_chain(certificate, os.environ.get("FOCUS_BROKER_KEY"))
            parameters.ssl_options = pika.SSLOptions(context, parameters.host)
    except Exception as error:
        raise Failure("BadEnvironment", 64, "reading the environment: the broker's address, or a file that belongs to it, "
                      f"is of no use ({type(error).__name__}); mount the Secret with it and set FOCUS_BROKER_URL or "
                      "FOCUS_BROKER_URL_FILE") from None
    if "heartbeat=" not in url:
        parameters.heartbeat = 5
    parameters.blocked_connection_timeout = 5
    return parameters


def serve_health(address, publisher):
    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            code, text = 200, "ok"
            if self.path == "/readyz":
                text = publisher.not_ready()
                code, text = (503, text) if text else (200, "ok")
            elif self.path == "/metrics":
                text = (f"focus_analyzer_lines_published_total {publisher.published}\n"
                        f"focus_analyzer_lines_dropped_total {publisher.lines.dropped}")
            elif self.path != "/livez":
                code, text = 404, "there are /livez, /readyz and /metrics"
            self.send_response(code)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(f"{text}\n".encode())

        def log_message(self, *_):
            pass

    try:
        host, port = address.rsplit(":", 1)
        server = ThreadingHTTPServer((host, int(port)), Health)
    except (OSError, ValueError) as error:
        raise Failure("HealthPortUnavailable", 64, f"listening on {address} for probes: {error}; choose a free address "
                      "with FOCUS_HEALTH_ADDR") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()


def read_environment():
    try:
        env = os.environ
        spec, source = json.loads(env["FOCUS_SPEC"]), json.loads(env["FOCUS_SOURCE"])
        return View(spec, source), source, env["FOCUS_QUEUE"], env["FOCUS_JOB_UID"]
    except (KeyError, TypeError, ValueError) as error:
        raise Failure("BadEnvironment", 64, f"reading the environment: {type(error).__name__} {error}; set every variable "
                      "of docs/analyzer-contract.md") from None


def analyze():
    view, source, queue, uid = read_environment()
    broker_parameters()
    lines = Lines(view)
    publisher = Publisher(queue, view.header(uid, source), lines)
    serve_health(os.environ.get("FOCUS_HEALTH_ADDR", "0.0.0.0:8082"), publisher)
    threading.Thread(target=guarded, args=(lines.run,), daemon=True).start()
    threading.Thread(target=leave_in_time, daemon=True).start()
    publisher.run()


def leave_in_time():
    """Ends the process when the broker does not take the last lines and the end in time."""
    stop.wait()
    time.sleep(GRACE)
    log.warning("the broker did not take the end in time")
    os._exit(0)


def guarded(work):
    """Ends the process when `work` fails: first its reason, for the operator."""
    try:
        return work()
    except Failure as failure:
        sentence, code = str(failure), failure.code
    except Exception as error:
        log.exception("a defect of this analyzer")
        sentence, code = f"AnalyzerDefect: computing and publishing lines: {type(error).__name__}; look at its log", 1
    print(sentence.replace("\n", " "), file=sys.stderr, flush=True)
    path = os.environ.get("FOCUS_TERMINATION_LOG", "/dev/termination-log")
    if os.path.exists(path):
        with open(path, "w") as file:
            file.write(sentence.replace("\n", " "))
    os._exit(code)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    guarded(analyze)
