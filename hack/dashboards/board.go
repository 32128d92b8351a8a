package main

import "math"

// A board is a dashboard as it is written down here: rows of panels.
type board struct {
	uid, title, description string
	rows                    []row
}

type row struct {
	title  string
	panels []panel
}

// A panel's width is in Grafana's columns, of which there are 24.
type panel struct {
	kind               kind
	title, description string
	unit               string
	width              uint32
	queries            []query
	// Values at which the colour changes, from green on.
	thresholds []threshold
	// Names of values, for timelines and stats.
	words map[string]word
	// What a stat shows where there is no data.
	noData string
	// The greatest value that the axis has; 0 for none.
	max float64
}

type kind int

const (
	// lines over time
	graph kind = iota
	// areas over time, one on the other
	stacked
	// one number for each query
	number
	// the name of each series instead of its number
	names
	// the buckets of a histogram over time
	heat
	// states over time
	timeline
)

// A query's expression has @ where the matchers of namespace and job belong, and @namespace where a recorded series
// knows the namespace alone.
type query struct {
	expr, legend string
}

type threshold struct {
	from  float64
	color string
}

// As the first threshold it gives the lowest values a colour other than green.
var below = math.Inf(-1)

type word struct {
	text, color string
}

// Units, as Grafana calls them.
const (
	seconds     = "s"
	share       = "percentunit"
	byteCount   = "bytes"
	count       = "short"
	perSecond   = "cps"
	requestRate = "reqps"
	plain       = "none"
	timestamp   = "dateTimeFromNow"
)

var yesNo = map[string]word{"0": {"no", "red"}, "1": {"yes", "green"}}
