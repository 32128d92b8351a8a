package main

const (
	phaseBuckets = `focus_job_phase_duration_seconds_bucket`
	phaseCount   = `focus_job_phase_duration_seconds_count`
	needsRules   = " It needs the chart's recording rules (monitoring.prometheusRule)."
	needsMonth   = " Where Prometheus keeps less than 30 days, it covers what is kept."
)

// What an on-call engineer looks at first: is the promise kept, and if not, which phase is slow and why.
var latency = board{
	uid:         "focus-consumer-latency",
	title:       "Focus: consumer latency",
	description: "How long a view takes until its consumer is there, how often that is too long, and what it waits for.",
	rows: []row{
		{"Service level: a consumer within 50 ms of the queue, for 99% of jobs over 30 days", serviceLevel},
		{"How long each phase takes", phases},
		{"Who waits, and for what", waiting},
		{"Starts and detection", detection},
	},
}

var serviceLevel = []panel{
	{
		kind: number, title: "Attainment, 30 days", unit: share, width: 5, noData: "no jobs",
		description: "Share of jobs whose consumer was there within 50 ms of the queue, over the last 30 days. A job that " +
			"passed its deadline without a consumer counts as bad. The objective is 99%." + needsMonth + needsRules,
		queries: []query{{
			`1 - sum(namespace:focus_consumer_bad_jobs:increase30d{@namespace}) / ` +
				`sum(namespace:focus_consumer_jobs:increase30d{@namespace})`, "attainment",
		}},
		thresholds: []threshold{{below, "red"}, {0.99, "orange"}, {0.995, "green"}},
	},
	{
		kind: number, title: "Error budget left, 30 days", unit: share, width: 5, noData: "no jobs",
		description: "What is left of the 1% of jobs that may be bad within 30 days; below 0 the objective is missed." +
			needsMonth + needsRules,
		queries: []query{{
			`1 - sum(namespace:focus_consumer_bad_jobs:increase30d{@namespace}) / ` +
				`sum(namespace:focus_consumer_jobs:increase30d{@namespace}) / 0.01`, "left",
		}},
		thresholds: []threshold{{below, "red"}, {0, "orange"}, {0.5, "green"}},
	},
	{
		kind: number, title: "Jobs in this time range", unit: count, width: 7,
		description: "Jobs that got their consumer in the chosen time range, those of them that waited longer than 50 ms " +
			"for it, and jobs that passed their deadline without one.",
		queries: []query{
			{`sum(increase(` + phaseCount + `{@, phase="consumer"}[$__range]))`, "with a consumer"},
			{`sum(increase(` + phaseCount + `{@, phase="consumer"}[$__range])) - ` +
				`sum(increase(` + phaseBuckets + `{@, phase="consumer", le="0.05"}[$__range]))`, "too late"},
			{`sum(increase(focus_job_deadline_exceeded_total{@, phase="consumer"}[$__range]))`, "never"},
		},
	},
	{
		kind: number, title: "Waiting for a consumer now", unit: seconds, width: 7,
		description: "How long the job that has waited longest for its consumer has waited; 0 when none does. This is what " +
			"no histogram shows: a consumer that never comes.",
		queries:    []query{{`max(focus_job_oldest_waiting_seconds{@, phase="consumer"})`, "oldest"}},
		thresholds: []threshold{{5, "orange"}, {30, "red"}},
	},
	{
		kind: graph, title: "Burn rate", unit: plain, width: 12,
		description: "How many times faster than allowed the error budget is used up, by the windows of the alerts. At 1 it " +
			"lasts 30 days; 14.4 over 1 h and 6 over 6 h page, 3 over 1 d and 1 over 3 d open a ticket." + needsRules,
		queries: []query{
			burn("1h"), burn("6h"), burn("1d"), burn("3d"),
		},
		thresholds: []threshold{{1, "orange"}, {14.4, "red"}},
	},
	{
		kind: graph, title: "Attainment over time", unit: share, width: 12, max: 1,
		description: "Share of jobs whose consumer was there within 50 ms of the queue, at each moment.",
		queries: []query{{
			`sum(rate(` + phaseBuckets + `{@, phase="consumer", le="0.05"}[$__rate_interval])) / ` +
				`(sum(rate(` + phaseCount + `{@, phase="consumer"}[$__rate_interval])) + ` +
				`sum(rate(focus_job_deadline_exceeded_total{@, phase="consumer"}[$__rate_interval])))`, "attainment",
		}},
		thresholds: []threshold{{below, "red"}, {0.99, "green"}},
	},
}

func burn(window string) query {
	return query{
		`sum(namespace:focus_consumer_bad_jobs:increase` + window + `{@namespace}) / ` +
			`sum(namespace:focus_consumer_jobs:increase` + window + `{@namespace}) / 0.01`, window,
	}
}

var phases = []panel{
	{
		kind: stacked, title: "Phases, p50", unit: seconds, width: 12,
		description: "The median of each phase. Pod and queue begin at the same moment, so the height of the stack is no " +
			"duration; its layers show which phase it is.",
		queries: []query{quantile("0.5", `phase!="total"`)},
	},
	{
		kind: stacked, title: "Phases, p99", unit: seconds, width: 12,
		description: "The 99th percentile of each phase. Pod and queue begin at the same moment, so the height of the stack " +
			"is no duration; its layers show which phase it is.",
		queries: []query{quantile("0.99", `phase!="total"`)},
	},
	{
		kind: heat, title: "Configure to Ready", unit: seconds, width: 12,
		description: "Jobs by the time from the request until pod, queue and consumer were all there.",
		queries:     []query{buckets("total")},
	},
	{
		kind: heat, title: "Queue to consumer", unit: seconds, width: 12,
		description: "Jobs by the time from the queue until a consumer was attached to it.",
		queries:     []query{buckets("consumer")},
	},
	{
		kind: graph, title: "Configure to Ready, p50 and p99", unit: seconds, width: 12,
		description: "From the request until pod, queue and consumer were all there.",
		queries: []query{
			named(quantile("0.5", `phase="total"`), "p50"), named(quantile("0.99", `phase="total"`), "p99"),
		},
	},
	{
		kind: graph, title: "As the client sees it", unit: seconds, width: 12,
		description: "From the arrival of a configure request at the Focus Server until the job's first consumer, and until " +
			"its first line. Jobs made by kubectl are not among them.",
		queries: []query{
			of("0.5", "focus_server_configure_to_consumer_seconds", "consumer p50"),
			of("0.99", "focus_server_configure_to_consumer_seconds", "consumer p99"),
			of("0.5", "focus_server_configure_to_first_line_seconds", "first line p50"),
			of("0.99", "focus_server_configure_to_first_line_seconds", "first line p99"),
		},
	},
}

func quantile(q, matcher string) query {
	return query{
		`histogram_quantile(` + q + `, sum by (le, phase) (rate(` + phaseBuckets + `{@, ` + matcher +
			`}[$__rate_interval])))`, "{{phase}}",
	}
}

// of is the quantile q of a histogram without labels of its own.
func of(q, histogram, legend string) query {
	return query{
		`histogram_quantile(` + q + `, sum by (le) (rate(` + histogram + `_bucket{@}[$__rate_interval])))`, legend,
	}
}

func named(query query, legend string) query {
	query.legend = legend
	return query
}

func buckets(phase string) query {
	return query{
		`sum by (le) (increase(` + phaseBuckets + `{@, phase="` + phase + `"}[$__rate_interval]))`, "{{le}}",
	}
}

var waiting = []panel{
	{
		kind: graph, title: "Oldest waiting job per phase", unit: seconds, width: 12,
		description: "How long the job that has waited longest for its pod, queue or consumer has waited; a line that climbs " +
			"is a job that does not get there.",
		queries: []query{{`max by (phase) (focus_job_oldest_waiting_seconds{@})`, "{{phase}}"}},
	},
	{
		kind: stacked, title: "Reasons of not-ready", unit: count, width: 12,
		description: "Running jobs that lack a part, by condition and reason. What each reason means stands in " +
			"docs/troubleshooting.md; Starting, Declaring, WaitingForQueue and NoConsumer only say that something is under way.",
		queries: []query{{
			`sum by (condition, reason) (max by (namespace, condition, reason) (focus_jobs_not_ready{@})) > 0`,
			"{{condition}}: {{reason}}",
		}},
	},
	{
		kind: stacked, title: "Jobs by phase", unit: count, width: 12,
		description: "All FocusJobs, as their status says.",
		queries:     []query{{`sum by (phase) (max by (namespace, phase) (focus_jobs{@}))`, "{{phase}}"}},
	},
	{
		kind: graph, title: "Deadlines passed, consumers lost", unit: perSecond, width: 12,
		description: "Jobs whose pod, queue or first consumer did not come in time; consumers that went away (lost), and of " +
			"them those that did not come back in time (overdue).",
		queries: []query{
			{`sum by (phase) (rate(focus_job_deadline_exceeded_total{@}[$__rate_interval]))`, "no {{phase}}"},
			{`sum by (outcome) (rate(focus_job_consumers_lost_total{@}[$__rate_interval]))`, "consumer {{outcome}}"},
		},
	},
}

var detection = []panel{
	{
		kind: stacked, title: "Cold starts", unit: count, width: 8,
		description: "Analyzers that became ready, by how they started: a cold start waits for a container.",
		queries: []query{{
			`sum by (start) (increase(` + phaseCount + `{@, phase="pod"}[$__rate_interval]))`, "{{start}}",
		}},
	},
	{
		kind: timeline, title: "Detection mode", unit: plain, width: 8,
		description: "How each operator sees consumers: by the broker's events, or by polling, which is slower and means that " +
			"the events cannot be read. The mode is that of its last connection.",
		queries: []query{{
			`sum by (pod) (focus_consumer_detection_mode{@, mode="events"}) + ` +
				`2 * sum by (pod) (focus_consumer_detection_mode{@, mode="polling"})`, "{{pod}}",
		}},
		words: map[string]word{"0": {"not connected yet", "red"}, "1": {"events", "green"}, "2": {"polling", "orange"}},
	},
	{
		kind: graph, title: "Detection lag", unit: seconds, width: 8,
		description: "From the broker's time of a consumer event to its arrival at the operator. The broker's clock has whole " +
			"milliseconds.",
		queries: []query{
			of("0.5", "focus_consumer_detection_lag_seconds", "p50"),
			of("0.99", "focus_consumer_detection_lag_seconds", "p99"),
		},
	},
}
