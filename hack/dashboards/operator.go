package main

// How the operator itself does: what it works on, what fails, what it costs.
var operator = board{
	uid:         "focus-operator",
	title:       "Focus: operator",
	description: "How the operator does: reconciliations and their failures, its calls of API server and broker, its costs.",
	rows: []row{
		{"Is it there", operatorState},
		{"Reconciliations", reconciles},
		{"API server", apiServer},
		{"Broker", broker},
		{"Costs", resources("operator")},
	},
}

var operatorState = []panel{
	{
		kind: number, title: "Operators", unit: count, width: 4, noData: "none",
		description: "Operators that Prometheus reaches.",
		queries:     []query{{`count(focus_operator_leader{@})`, "operators"}},
		thresholds:  []threshold{{below, "red"}, {1, "green"}},
	},
	{
		kind: names, title: "Leader", unit: plain, width: 8, noData: "nobody leads",
		description: "The operator that reconciles; the others stand by. More than one is shown where several are installed, or " +
			"for a moment while one takes over.",
		queries: []query{{`max by (pod) (focus_operator_leader{@}) == 1`, "{{pod}}"}},
	},
	{
		kind: number, title: "Broker connected", unit: plain, width: 4, noData: "no operator",
		description: "Whether the operator that leads is connected to the broker.",
		queries: []query{{
			`min(focus_broker_connected{@} and on (namespace, pod) focus_operator_leader{@} == 1)`, "connected",
		}},
		words: yesNo,
	},
	{
		kind: names, title: "Version", unit: plain, width: 8,
		description: "What runs: more than one version is shown during an upgrade.",
		queries:     []query{{`count by (version) (focus_build_info{@, role="operator"})`, "{{version}}"}},
	},
}

var reconciles = []panel{
	{
		kind: graph, title: "Reconciliations", unit: perSecond, width: 8,
		description: "Looks at a job, well or badly ended. Without changes there is one for each job every 5 minutes.",
		queries: []query{
			{`sum(rate(focus_reconciles_total{@}[$__rate_interval]))`, "all"},
			{`sum(rate(focus_reconcile_errors_total{@}[$__rate_interval]))`, "failed"},
		},
	},
	{
		kind: stacked, title: "Errors by reason", unit: perSecond, width: 8,
		description: "Reconciliations that failed. Conflict is harmless: a newer version of the job was there. The others are " +
			"tried again with a growing pause; the log has their words.",
		queries: []query{{
			`sum by (reason) (rate(focus_reconcile_errors_total{@}[$__rate_interval]))`, "{{reason}}",
		}},
	},
	{
		kind: graph, title: "Queue depth", unit: count, width: 8,
		description: "Jobs with news that no reconciliation has taken up, and reconciliations under way, of which there are 32 " +
			"at most.",
		queries: []query{
			{`sum(focus_reconcile_queue_depth{@})`, "waiting"},
			{`sum(focus_reconciles_active{@})`, "under way"},
		},
	},
	{
		kind: graph, title: "Duration of a reconciliation", unit: seconds, width: 12,
		description: "With its calls of API server and broker.",
		queries: []query{
			of("0.5", "focus_reconcile_duration_seconds", "p50"),
			of("0.99", "focus_reconcile_duration_seconds", "p99"),
		},
	},
	{
		kind: graph, title: "Kubernetes Events", unit: perSecond, width: 12,
		description: "Published, or dropped because too many waited or the API server refused them. Dropped ones are lost for " +
			"kubectl describe, not for status and metrics.",
		queries: []query{{`sum by (outcome) (rate(focus_events_total{@}[$__rate_interval]))`, "{{outcome}}"}},
	},
}

var apiServer = []panel{
	{
		kind: graph, title: "Writes", unit: requestRate, width: 12,
		description: "Writes to the API server, counted when they are tried. While nothing changes there are none.",
		queries: []query{{
			`sum by (verb, resource) (rate(focus_api_writes_total{@}[$__rate_interval]))`, "{{verb}} {{resource}}",
		}},
	},
	{
		kind: graph, title: "Calls that did not go well", unit: requestRate, width: 12,
		description: "Harmless: conflict, and not_found where something was to be deleted.",
		queries: []query{{
			`sum by (verb, resource, outcome) (rate(focus_api_requests_total{@, outcome!="ok"}[$__rate_interval])) > 0`,
			"{{verb}} {{resource}}: {{outcome}}",
		}},
	},
	{
		kind: graph, title: "Duration of a call, p50", unit: seconds, width: 12,
		description: "Until the API server has answered.",
		queries:     []query{apiQuantile("0.5")},
	},
	{
		kind: graph, title: "Duration of a call, p99", unit: seconds, width: 12,
		description: "Until the API server has answered; calls are given up after 10 s.",
		queries:     []query{apiQuantile("0.99")},
	},
}

func apiQuantile(q string) query {
	return query{
		`histogram_quantile(` + q + `, sum by (le, verb, resource) (` +
			`rate(focus_api_request_duration_seconds_bucket{@}[$__rate_interval])))`, "{{verb}} {{resource}}",
	}
}

var broker = []panel{
	{
		kind: graph, title: "Operations", unit: requestRate, width: 8,
		description: "What was asked of the broker about queues. Looks are few while its events can be read.",
		queries: []query{{
			`sum by (operation) (rate(focus_broker_operation_seconds_count{@}[$__rate_interval]))`, "{{operation}}",
		}},
	},
	{
		kind: graph, title: "Operations that failed", unit: requestRate, width: 8,
		description: "unreachable: there was no connection; timeout: no answer within 5 s; refused: the broker said no.",
		queries: []query{{
			`sum by (operation, outcome) (rate(focus_broker_operation_seconds_count{@, outcome!="ok"}[$__rate_interval]))`,
			"{{operation}}: {{outcome}}",
		}},
	},
	{
		kind: graph, title: "Duration of an operation, p99", unit: seconds, width: 8,
		description: "Until the broker has answered.",
		queries: []query{{
			`histogram_quantile(0.99, sum by (le, operation) (` +
				`rate(focus_broker_operation_seconds_bucket{@, outcome="ok"}[$__rate_interval])))`, "{{operation}}",
		}},
	},
	{
		kind: timeline, title: "Connection", unit: plain, width: 24,
		description: "Whether each operator is connected to the broker.",
		queries:     []query{{`min by (pod) (focus_broker_connected{@})`, "{{pod}}"}},
		words:       yesNo,
	},
}

// resources are the costs of the processes of a role.
func resources(role string) []panel {
	of := func(series string) string {
		return series + ` and on (namespace, pod) focus_build_info{@, role="` + role + `"}`
	}
	return []panel{
		{
			kind: graph, title: "CPU", unit: plain, width: 8,
			description: "Cores that each process uses.",
			queries: []query{{
				of(`sum by (namespace, pod) (rate(process_cpu_seconds_total{@}[$__rate_interval]))`), "{{pod}}",
			}},
		},
		{
			kind: graph, title: "Memory", unit: byteCount, width: 8,
			description: "Resident memory of each process, and the address space that it has mapped, of which most is never used.",
			queries: []query{
				{of(`max by (namespace, pod) (process_resident_memory_bytes{@})`), "{{pod}}"},
				{of(`max by (namespace, pod) (process_virtual_memory_bytes{@})`), "{{pod}} mapped"},
			},
		},
		{
			kind: graph, title: "Running since", unit: seconds, width: 8,
			description: "Time since each process was started; a fall is a restart.",
			queries: []query{{
				of(`time() - max by (namespace, pod) (process_start_time_seconds{@})`), "{{pod}}",
			}},
		},
		{
			kind: graph, title: "File descriptors", unit: share, width: 12,
			description: "Open files and connections of each process, as a share of what it may have.",
			queries: []query{{
				of(`max by (namespace, pod) (process_open_fds{@}) / max by (namespace, pod) (process_max_fds{@})`), "{{pod}}",
			}},
		},
		{
			kind: graph, title: "Threads", unit: count, width: 12,
			description: "Threads of each process; their number does not grow with the jobs.",
			queries:     []query{{of(`max by (namespace, pod) (process_threads{@})`), "{{pod}}"}},
		},
	}
}
