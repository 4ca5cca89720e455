package prommetrics_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/prommetrics"
)

// everything is every metric that there is: by the names of its samples, and of its family.
func everything(t *testing.T) (all samples, families []string) {
	t.Helper()
	node := start(t, prommetrics.New(prommetrics.Config{}))
	node.Channel("x", fanfare.ChannelOptions{})
	fanfaretest.Connect(t, node.Node, "ann")
	node.metrics.Disconnected("memory", 3000)
	node.metrics.Delivered("x", time.Second)
	gathered, err := node.registry.Gather()
	require.NoError(t, err)
	all = make(samples)
	for _, f := range gathered {
		families = append(families, f.GetName())
		labels := []string{}
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if f.GetType() != dto.MetricType_HISTOGRAM {
			all[f.GetName()] = labels
			continue
		}
		all[f.GetName()+"_count"], all[f.GetName()+"_sum"] = labels, labels
		all[f.GetName()+"_bucket"] = append(slices.Clone(labels), "le")
	}
	return all, families
}

// family is what a sample belongs to.
func family(sample string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		sample = strings.TrimSuffix(sample, suffix)
	}
	return sample
}

func TestDashboard(t *testing.T) {
	data, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	type target struct{ Expr, LegendFormat string }
	var board struct {
		Title      string
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			ID          int
			Title, Type string
			GridPos     struct{ X, Y, W, H int }
			Targets     []target
		}
	}
	require.NoError(t, json.Unmarshal(data, &board))
	require.Equal(t, "fanfare", board.Title)

	all, families := everything(t)
	variables := strings.NewReplacer("$__rate_interval", "5m")
	for _, v := range board.Templating.List {
		if v.Type == "query" {
			_, err := all.check(v.Definition)
			require.NoError(t, err, v.Definition)
		}
	}
	shown := make(map[string]bool)
	ids := make(map[int]bool)
	legend := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, p := range board.Panels {
		require.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24)
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
		for _, target := range p.Targets {
			metrics, err := all.check(variables.Replace(target.Expr))
			require.NoError(t, err, "%s: %s", p.Title, target.Expr)
			require.NotEmpty(t, metrics)
			for _, metric := range metrics {
				shown[family(metric)] = true
			}
			for _, l := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				require.Regexp(t, `by \([^)]*\b`+l[1]+`\b`, target.Expr, "the legend of %s", p.Title)
			}
		}
	}
	require.ElementsMatch(t, families, slices.Collect(maps.Keys(shown)), "the dashboard shows every metric")
}

func TestAlerts(t *testing.T) {
	data, err := os.ReadFile("alerts.yml")
	require.NoError(t, err)
	type rule struct {
		Alert, Expr         string
		For                 time.Duration
		Labels, Annotations map[string]string
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&file))
	require.Len(t, file.Groups, 1)
	require.NotEmpty(t, file.Groups[0].Rules)

	doc, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	all, _ := everything(t)
	names := make(map[string]bool)
	used := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, r := range file.Groups[0].Rules {
		require.Regexp(t, `^Fanfare[A-Z]\w+$`, r.Alert)
		require.False(t, names[r.Alert], "%s is there twice", r.Alert)
		names[r.Alert] = true
		metrics, err := all.check(r.Expr)
		require.NoError(t, err, "%s: %s", r.Alert, r.Expr)
		require.NotEmpty(t, metrics)
		require.Contains(t, []string{"warning", "critical"}, r.Labels["severity"])
		require.NotEmpty(t, r.Annotations["summary"])
		for _, l := range used.FindAllStringSubmatch(r.Annotations["summary"], -1) {
			labels := append(targetLabels, all[metrics[0]]...)
			require.Contains(t, labels, l[1], r.Alert)
			if strings.Contains(r.Expr, "by (") {
				require.Regexp(t, `by \([^)]*\b`+l[1]+`\b`, r.Expr, r.Alert)
			}
		}
		require.Contains(t, string(doc), "`"+r.Alert+"`", "docs/metrics.md says what to do")
	}
	require.Len(t, regexp.MustCompile("`Fanfare[A-Z]\\w+`").FindAll(doc, -1), len(names), "and of no other")
}

// TestDocs: both lists of metrics are those that there are.
func TestDocs(t *testing.T) {
	_, families := everything(t)
	doc, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(fanfare_\\w+)`").FindAllStringSubmatch(string(doc), -1) {
		listed = append(listed, m[1])
	}
	require.ElementsMatch(t, families, listed)

	source, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	listed = nil
	for _, line := range regexp.MustCompile(`(?m)^//\t([a-z_, ]+?)(\{[a-z,]+\})?(  .*)?$`).FindAllStringSubmatch(string(source), -1) {
		for name := range strings.SplitSeq(line[1], ", ") {
			listed = append(listed, "fanfare_"+name)
		}
	}
	require.ElementsMatch(t, families, listed)
}
