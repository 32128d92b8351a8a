package main

import (
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

const (
	statHeight  = 4
	graphHeight = 8
)

var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

func build(board board) (dashboard.Dashboard, error) {
	builder := dashboard.NewDashboardBuilder(board.title).
		Uid(board.uid).
		Description(board.description).
		Tags([]string{"focus"}).
		Refresh("30s").
		Time("now-6h", "now").
		Timezone("browser").
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Readonly().
		Link(dashboard.NewDashboardLinkBuilder("Focus").
			Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{"focus"}).
			IncludeVars(true).
			KeepTime(true)).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").
			Label("Data source").
			Type("prometheus")).
		WithVariable(variable("namespace", "Namespace", "label_values(focus_build_info, namespace)")).
		WithVariable(variable("job", "Job", `label_values(focus_build_info{namespace=~"$namespace"}, job)`))
	id := uint32(0)
	for _, row := range board.rows {
		id++
		builder = builder.WithRow(dashboard.NewRowBuilder(row.title).Id(id))
		for _, panel := range row.panels {
			id++
			builder = builder.WithPanel(buildPanel(panel, id))
		}
	}
	return builder.Build()
}

// variable takes its values from the data source; all of them unless some are chosen.
func variable(name, label, query string) *dashboard.QueryVariableBuilder {
	all := dashboard.VariableOption{
		Selected: cog.ToPtr(true),
		Text:     dashboard.StringOrArrayOfString{String: cog.ToPtr("All")},
		Value:    dashboard.StringOrArrayOfString{String: cog.ToPtr("$__all")},
	}
	return dashboard.NewQueryVariableBuilder(name).
		Label(label).
		Datasource(source).
		Query(dashboard.StringOrMap{String: cog.ToPtr(query)}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc).
		Multi(true).
		IncludeAll(true).
		AllValue(".+").
		Current(all)
}

func buildPanel(panel panel, id uint32) cog.Builder[dashboard.Panel] {
	switch panel.kind {
	case number, names:
		return buildStat(panel, id)
	case heat:
		return buildHeat(panel, id)
	case timeline:
		return buildTimeline(panel, id)
	default:
		return buildGraph(panel, id)
	}
}

func buildGraph(panel panel, id uint32) cog.Builder[dashboard.Panel] {
	legend := common.NewVizLegendOptionsBuilder().
		ShowLegend(true).
		DisplayMode(common.LegendDisplayModeTable).
		Placement(common.LegendPlacementBottom).
		Calcs([]string{"lastNotNull", "max"})
	tooltip := common.NewVizTooltipOptionsBuilder().
		Mode(common.TooltipDisplayModeMulti).
		Sort(common.SortOrderDescending)
	builder := timeseries.NewPanelBuilder().
		Id(id).Title(panel.title).Description(panel.description).Datasource(source).
		Span(panel.width).Height(graphHeight).
		Unit(panel.unit).Min(0).
		Targets(targets(panel, "")).
		Legend(legend).Tooltip(tooltip).
		LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever)
	if panel.max > 0 {
		builder = builder.Max(panel.max)
	}
	if panel.kind == stacked {
		builder = builder.FillOpacity(40).
			Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A"))
	}
	if len(panel.thresholds) > 0 {
		builder = builder.Thresholds(thresholds(panel)).
			ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return builder
}

func buildStat(panel panel, id uint32) cog.Builder[dashboard.Panel] {
	builder := stat.NewPanelBuilder().
		Id(id).Title(panel.title).Description(panel.description).Datasource(source).
		Span(panel.width).Height(statHeight).
		Unit(panel.unit).
		Targets(targets(panel, "")).
		Thresholds(thresholds(panel)).
		ColorMode(common.BigValueColorModeValue).
		Orientation(common.VizOrientationAuto).
		GraphMode(common.BigValueGraphModeNone).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
		Mappings(mappings(panel))
	if panel.noData != "" {
		builder = builder.NoValue(panel.noData)
	}
	if panel.kind == names {
		builder = builder.TextMode(common.BigValueTextModeName)
	}
	return builder
}

// The buckets of a Prometheus histogram are the rows: no calculation is left to Grafana.
func buildHeat(panel panel, id uint32) cog.Builder[dashboard.Panel] {
	return heatmap.NewPanelBuilder().
		Id(id).Title(panel.title).Description(panel.description).Datasource(source).
		Span(panel.width).Height(graphHeight).
		Unit(count).
		Targets(targets(panel, prometheus.PromQueryFormatHeatmap)).
		Calculate(false).
		YAxis(heatmap.NewYAxisConfigBuilder().Unit(panel.unit)).
		Color(heatmap.NewHeatmapColorOptionsBuilder().
			Mode(heatmap.HeatmapColorModeScheme).
			Scheme("Oranges").
			Steps(64)).
		CellValues(heatmap.NewCellValuesBuilder().Unit(count)).
		Tooltip(heatmap.NewHeatmapTooltipBuilder().Mode(common.TooltipDisplayModeSingle).YHistogram(true)).
		ShowLegend()
}

func buildTimeline(panel panel, id uint32) cog.Builder[dashboard.Panel] {
	return statetimeline.NewPanelBuilder().
		Id(id).Title(panel.title).Description(panel.description).Datasource(source).
		Span(panel.width).Height(graphHeight).
		Unit(panel.unit).
		Targets(targets(panel, "")).
		Mappings(mappings(panel)).
		MergeValues(true).
		ShowValue(common.VisibilityModeAuto)
}

func targets(panel panel, format prometheus.PromQueryFormat) []cog.Builder[variants.Dataquery] {
	var all []cog.Builder[variants.Dataquery]
	for i, query := range panel.queries {
		target := prometheus.NewDataqueryBuilder().
			RefId(string(rune('A' + i))).
			Datasource(source).
			Expr(scoped(query.expr)).
			LegendFormat(query.legend).
			EditorMode(prometheus.QueryEditorModeCode)
		if panel.kind == number || panel.kind == names {
			target = target.Instant()
		} else {
			target = target.Range()
		}
		if format != "" {
			target = target.Format(format)
		}
		all = append(all, target)
	}
	return all
}

// scoped puts the matchers into an expression.
func scoped(expr string) string {
	expr = strings.ReplaceAll(expr, "@namespace", `namespace=~"$namespace"`)
	return strings.ReplaceAll(expr, "@", `namespace=~"$namespace", job=~"$job"`)
}

func thresholds(panel panel) cog.Builder[dashboard.ThresholdsConfig] {
	steps := []dashboard.Threshold{{Value: nil, Color: "green"}}
	for _, threshold := range panel.thresholds {
		steps = append(steps, dashboard.Threshold{Value: cog.ToPtr(threshold.from), Color: threshold.color})
	}
	// The lowest step has no bound.
	if len(panel.thresholds) > 0 && panel.thresholds[0].from == below {
		steps = steps[1:]
		steps[0].Value = nil
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

func mappings(panel panel) []dashboard.ValueMapping {
	if len(panel.words) == 0 {
		return nil
	}
	options := map[string]dashboard.ValueMappingResult{}
	for value, word := range panel.words {
		options[value] = dashboard.ValueMappingResult{Text: cog.ToPtr(word.text), Color: cog.ToPtr(word.color)}
	}
	return []dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{
		Type:    dashboard.MappingTypeValueToText,
		Options: options,
	}}}
}
