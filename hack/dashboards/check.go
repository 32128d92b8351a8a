package main

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	series  = regexp.MustCompile(`\b(focus|process)_[a-z_]+|\bnamespace:focus_[a-z0-9_:]+`)
	windows = regexp.MustCompile(`\[([^\]]*)\]`)
)

// check finds what Grafana would accept and a reader would miss.
func check(board board) error {
	if board.uid == "" || board.title == "" || board.description == "" {
		return fmt.Errorf("it has no uid, title or description")
	}
	for _, row := range board.rows {
		var width uint32
		for _, panel := range row.panels {
			if err := checkPanel(panel); err != nil {
				return fmt.Errorf("panel %q: %w", panel.title, err)
			}
			width += panel.width
		}
		if width%24 != 0 {
			return fmt.Errorf("row %q: its panels are %d columns wide, which fills no line of 24", row.title, width)
		}
	}
	return nil
}

func checkPanel(panel panel) error {
	switch {
	case panel.title == "":
		return fmt.Errorf("it has no title")
	case !strings.HasSuffix(panel.description, "."):
		return fmt.Errorf("its description is no sentence")
	case panel.unit == "":
		return fmt.Errorf("it has no unit")
	case len(panel.queries) == 0:
		return fmt.Errorf("it has no query")
	case panel.kind == heat && len(panel.queries) > 1:
		return fmt.Errorf("a heatmap shows one histogram")
	}
	for _, query := range panel.queries {
		if err := checkQuery(query); err != nil {
			return fmt.Errorf("%s: %w", query.expr, err)
		}
	}
	return nil
}

func checkQuery(query query) error {
	if query.legend == "" {
		return fmt.Errorf("it has no legend")
	}
	for _, place := range series.FindAllStringIndex(query.expr, -1) {
		if name, rest := query.expr[place[0]:place[1]], query.expr[place[1]:]; !strings.HasPrefix(rest, "{@") {
			return fmt.Errorf("%s is not limited to the chosen namespaces", name)
		}
	}
	for _, window := range windows.FindAllStringSubmatch(query.expr, -1) {
		if window[1] != "$__rate_interval" && window[1] != "$__range" {
			return fmt.Errorf("a window of %s fits neither every pause between scrapes nor every zoom", window[1])
		}
	}
	return nil
}
