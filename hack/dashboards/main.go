// Command dashboards writes the Grafana dashboards of the chart, made with Grafana's own types:
//
//	dashboards OUT
//
// It fails when one is not what Grafana's schema says, or breaks a rule of check.go.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	if len(os.Args) != 2 {
		fatal(fmt.Errorf("usage: dashboards OUT"))
	}
	if err := os.MkdirAll(os.Args[1], 0o755); err != nil {
		fatal(err)
	}
	know()
	for name, board := range map[string]board{
		"consumer-latency":   latency,
		"operator":           operator,
		"server-and-streams": server,
	} {
		if err := write(filepath.Join(os.Args[1], name+".json"), board); err != nil {
			fatal(fmt.Errorf("dashboard %s: %w", name, err))
		}
	}
}

// know tells Grafana's types of the panels and queries that there are.
func know() {
	runtime := cog.NewRuntime()
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	for _, panel := range []variants.PanelcfgConfig{
		heatmap.VariantConfig(), stat.VariantConfig(), statetimeline.VariantConfig(), timeseries.VariantConfig(),
	} {
		runtime.RegisterPanelcfgVariant(panel)
	}
}

func write(file string, board board) error {
	if err := check(board); err != nil {
		return err
	}
	built, err := build(board)
	if err != nil {
		return err
	}
	text, err := json.Marshal(built)
	if err != nil {
		return err
	}
	// What was written is read again with Grafana's types: a field that they do not know is an error.
	var read dashboard.Dashboard
	var problems cog.BuildErrors
	// It gives an empty list where all is well.
	if err := read.UnmarshalJSONStrict(text); err != nil && (!errors.As(err, &problems) || len(problems) > 0) {
		return err
	}
	if err := read.Validate(); err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return err
	}
	indented.WriteByte('\n')
	// Go writes these letters as if the text were for HTML.
	readable := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(indented.String())
	return os.WriteFile(file, []byte(readable), 0o644)
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "dashboards:", err)
	os.Exit(1)
}
