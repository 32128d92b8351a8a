package main

// What clients get from the Focus Server: answers, lines, streams; and what stands behind it.
var server = board{
	uid:         "focus-server-streams",
	title:       "Focus: server and streams",
	description: "What clients get: answers, windows, lines and streams; and the analyzers, the job store and the costs behind.",
	rows: []row{
		{"Is it there", serverState},
		{"Requests", requests},
		{"Lines and streams", streams},
		{"Analyzers", analyzers},
		{"Recordings and job store", records},
		{"Security", security},
		{"Costs of the servers", resources("server")},
	},
}

var serverState = []panel{
	{
		kind: number, title: "Servers", unit: count, width: 4, noData: "none",
		description: "Focus Servers that Prometheus reaches.",
		queries:     []query{{`count(focus_server_broker_connected{@})`, "servers"}},
		thresholds:  []threshold{{below, "red"}, {1, "green"}},
	},
	{
		kind: number, title: "Broker connected", unit: plain, width: 4, noData: "no server",
		description: "Whether every server is connected to the broker.",
		queries:     []query{{`min(focus_server_broker_connected{@})`, "connected"}},
		words:       yesNo,
	},
	{
		kind: number, title: "Broker's events", unit: plain, width: 4, noData: "no server",
		description: "Whether every server learns of new queues by the broker's events; without them it has to ask, and consumers " +
			"attach later.",
		queries: []query{{`min(focus_server_broker_events{@})`, "events"}},
		words:   map[string]word{"0": {"polling", "orange"}, "1": {"events", "green"}},
	},
	{
		kind: number, title: "Free windows", unit: count, width: 4, noData: "no server",
		description: "Windows that no live job has. When none is free, configure is answered with 429.",
		queries:     []query{{`min(max by (namespace) (focus_server_windows{@, state="free"}))`, "free"}},
		thresholds:  []threshold{{below, "red"}, {1, "orange"}, {4, "green"}},
	},
	{
		kind: number, title: "Consumers", unit: count, width: 4, noData: "no server",
		description: "Consumers that the servers have attached to queues: one for each live job.",
		queries:     []query{{`sum(focus_server_consumers{@})`, "consumers"}},
	},
	{
		kind: names, title: "Version", unit: plain, width: 4,
		description: "What runs: more than one version is shown during an upgrade.",
		queries:     []query{{`count by (version) (focus_build_info{@, role="server"})`, "{{version}}"}},
	},
}

var requests = []panel{
	{
		kind: graph, title: "Requests by route", unit: requestRate, width: 12,
		description: "Requests answered.",
		queries: []query{{
			`sum by (route) (rate(focus_server_http_requests_total{@}[$__rate_interval])) > 0`, "{{route}}",
		}},
	},
	{
		kind: stacked, title: "Answers by code", unit: requestRate, width: 12,
		description: "Requests answered, by HTTP code. 404 on metadata is a client that asks for a job whose consumer is not " +
			"there yet; 201 is waterfall data.",
		queries: []query{{
			`sum by (code) (rate(focus_server_http_requests_total{@}[$__rate_interval])) > 0`, "{{code}}",
		}},
	},
	{
		kind: graph, title: "Configure", unit: seconds, width: 8,
		description: "From a configure request's arrival to its answer, where it made a job.",
		queries: []query{
			of("0.5", "focus_server_configure_seconds", "p50"), of("0.99", "focus_server_configure_seconds", "p99"),
		},
	},
	{
		kind: graph, title: "Configure refused or failed", unit: requestRate, width: 8,
		description: "400 and 422 are the client's requests, 429 means that all windows or all jobs of a caller are taken, 408 and " +
			"5xx are the server's side.",
		queries: []query{{
			`sum by (code) (rate(focus_server_http_requests_total{@, route="configure", code!="200"}[$__rate_interval]))`,
			"{{code}}",
		}},
	},
	{
		kind: stacked, title: "Windows", unit: count, width: 8,
		description: "Windows of live jobs, and free ones. Each job has a window to itself.",
		queries: []query{{
			`sum by (state) (max by (namespace, state) (focus_server_windows{@}))`, "{{state}}",
		}},
	},
}

var streams = []panel{
	{
		kind: graph, title: "Lines received", unit: perSecond, width: 8,
		description: "Spectrogram lines that the consumers took from their queues.",
		queries:     []query{{`sum by (pod) (rate(focus_server_lines_total{@}[$__rate_interval]))`, "{{pod}}"}},
	},
	{
		kind: stacked, title: "Lines lost", unit: perSecond, width: 8,
		description: "gap: never came; memory: pushed out by the limit on a job's memory; malformed: not readable; slow_reader: one " +
			"reader of a stream was too slow, the others have them.",
		queries: []query{{
			`sum by (reason) (rate(focus_server_lines_dropped_total{@}[$__rate_interval]))`, "{{reason}}",
		}},
	},
	{
		kind: graph, title: "Readers of streams", unit: count, width: 8,
		description: "Clients that read a live stream, by gRPC or WebSocket. A job that nobody reads ends after its idle time.",
		queries:     []query{{`sum by (kind) (focus_server_stream_readers{@})`, "{{kind}}"}},
	},
	{
		kind: graph, title: "Lines given to readers", unit: perSecond, width: 12,
		description: "Counted once for each reader.",
		queries:     []query{{`sum by (kind) (rate(focus_server_stream_lines_total{@}[$__rate_interval]))`, "{{kind}}"}},
	},
	{
		kind: graph, title: "Consumers", unit: count, width: 12,
		description: "Consumers attached to queues, by server: one for each live job.",
		queries:     []query{{`sum by (pod) (focus_server_consumers{@})`, "{{pod}}"}},
	},
}

var analyzers = []panel{
	{
		kind: graph, title: "Lines published", unit: perSecond, width: 8,
		description: "Lines that the broker has confirmed to the analyzers.",
		queries:     []query{{`sum(rate(focus_analyzer_lines_published_total{@}[$__rate_interval]))`, "published"}},
	},
	{
		kind: graph, title: "Lines given up", unit: perSecond, width: 8,
		description: "Because the broker was away or slow, or the processor too slow; the latter also alone.",
		queries: []query{
			{`sum(rate(focus_analyzer_lines_dropped_total{@}[$__rate_interval]))`, "given up"},
			{`sum(rate(focus_analyzer_lines_skipped_total{@}[$__rate_interval]))`, "never computed"},
		},
	},
	{
		kind: graph, title: "Time to compute a line", unit: seconds, width: 8,
		description: "Over all analyzers. Where it comes near the time between two lines, lines are given up.",
		queries: []query{
			of("0.5", "focus_analyzer_line_compute_seconds", "p50"),
			of("0.99", "focus_analyzer_line_compute_seconds", "p99"),
		},
	},
	{
		kind: graph, title: "Lines that wait for the broker", unit: byteCount, width: 8,
		description: "In the memory of all analyzers, and of the one that has most.",
		queries: []query{
			{`sum(focus_analyzer_waiting_bytes{@})`, "all"}, {`max(focus_analyzer_waiting_bytes{@})`, "the fullest"},
		},
	},
	{
		kind: graph, title: "Reconnects to the broker", unit: perSecond, width: 8,
		description: "Attempts after an analyzer's first.",
		queries:     []query{{`sum(rate(focus_analyzer_reconnects_total{@}[$__rate_interval]))`, "attempts"}},
	},
	{
		kind: graph, title: "CPU of the analyzers", unit: plain, width: 8,
		description: "Cores that all analyzers use, and the busiest one.",
		queries: []query{
			{`sum(` + analyzerCPU + `)`, "all"}, {`max(` + analyzerCPU + `)`, "the busiest"},
		},
	},
}

const analyzerCPU = `rate(process_cpu_seconds_total{@}[$__rate_interval]) and on (namespace, pod) ` +
	`focus_build_info{@, role="analyzer"}`

var records = []panel{
	{
		kind: graph, title: "Recordings", unit: count, width: 8,
		description: "HDF5 files in the folder of recordings: those that historic views can be made of, and those that are damaged, " +
			"of no known format or do not tell their time.",
		queries: []query{{`max by (readable) (focus_server_recordings{@})`, "readable: {{readable}}"}},
	},
	{
		kind: graph, title: "Failed looks at the recordings", unit: perSecond, width: 8,
		description: "The folder could not be read; the server's log says why.",
		queries: []query{{
			`sum(rate(focus_server_recording_scan_failures_total{@}[$__rate_interval]))`, "failures",
		}},
	},
	{
		kind: timeline, title: "Database", unit: plain, width: 8,
		description: "Whether each server reaches MongoDB. Empty where the Kubernetes API is the job store.",
		queries:     []query{{`min by (pod) (focus_server_store_connected{@})`, "{{pod}}"}},
		words:       yesNo,
	},
	{
		kind: graph, title: "Operations of the database, p99", unit: seconds, width: 8,
		description: "Well or badly ended. configure waits for claim alone.",
		queries: []query{{
			`histogram_quantile(0.99, sum by (le, operation) (` +
				`rate(focus_server_store_seconds_bucket{@}[$__rate_interval])))`, "{{operation}}",
		}},
	},
	{
		kind: graph, title: "Failures of the database", unit: perSecond, width: 8,
		description: "A window or id that is taken is no failure.",
		queries: []query{{
			`sum by (operation) (rate(focus_server_store_errors_total{@}[$__rate_interval]))`, "{{operation}}",
		}},
	},
	{
		kind: graph, title: "Records that wait, and lost changes", unit: count, width: 8,
		description: "Jobs with changes that are not in the database yet, and changes that never will be, by reason.",
		queries: []query{
			{`sum(focus_server_store_waiting_jobs{@})`, "jobs that wait"},
			{`sum by (reason) (increase(focus_server_store_dropped_total{@}[$__rate_interval]))`, "lost: {{reason}}"},
		},
	},
}

var security = []panel{
	{
		kind: graph, title: "Callers", unit: requestRate, width: 8,
		description: "Requests whose caller had to be known, by what became of their token. unavailable: the API server did not say " +
			"whose it is.",
		queries: []query{{`sum by (outcome) (rate(focus_server_auth_total{@}[$__rate_interval]))`, "{{outcome}}"}},
	},
	{
		kind: graph, title: "Mounted files that changed", unit: count, width: 8,
		description: "refused: the new files could not be used, and the old ones stay.",
		queries: []query{{
			`sum by (source, outcome) (increase(focus_server_reloads_total{@}[$__rate_interval]))`, "{{source}} {{outcome}}",
		}},
	},
	{
		kind: number, title: "Certificate ends", unit: timestamp, width: 4, noData: "no TLS",
		description: "When the first of the certificates in use ends.",
		queries:     []query{{`min(focus_server_tls_certificate_expiry_seconds{@} > 0) * 1000`, "ends"}},
	},
	{
		kind: number, title: "Failed TLS handshakes", unit: count, width: 4,
		description: "Connections given up before their TLS handshake was done, in the chosen time range.",
		queries: []query{{
			`sum(increase(focus_server_tls_failed_handshakes_total{@}[$__range]))`, "failed",
		}},
	},
}
