package prommetrics_test

import (
	"context"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/prommetrics"
)

// scraped is a node with a collector in a registry of its own.
type scraped struct {
	*fanfare.Node
	metrics  *prommetrics.Collector
	registry *prometheus.Registry
}

// start makes a node that is shut down at the test's end.
func start(t testing.TB, metrics *prommetrics.Collector, change ...func(*fanfare.Config)) *scraped {
	t.Helper()
	s := &scraped{metrics: metrics, registry: prometheus.NewPedanticRegistry()}
	config := fanfare.Config{Observer: metrics, Authenticate: fanfaretest.Authenticate, DrainWindow: -1}
	for _, f := range change {
		f(&config)
	}
	var err error
	s.Node, err = fanfare.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Shutdown(context.Background())) })
	require.NoError(t, metrics.Register(s.registry))
	return s
}

// gather returns every series there is, by its name and labels as in `name{label="value"}`. A histogram is its _count and _sum.
func gather(t testing.TB, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := labelsOf(m)
			switch {
			case m.GetHistogram() != nil:
				values[f.GetName()+"_count"+labels] = float64(m.GetHistogram().GetSampleCount())
				values[f.GetName()+"_sum"+labels] = m.GetHistogram().GetSampleSum()
			case m.GetCounter() != nil:
				values[f.GetName()+labels] = m.GetCounter().GetValue()
			default:
				values[f.GetName()+labels] = m.GetGauge().GetValue()
			}
		}
	}
	return values
}

func labelsOf(m *dto.Metric) string {
	var pairs []string
	for _, l := range m.GetLabel() {
		pairs = append(pairs, l.GetName()+"="+`"`+l.GetValue()+`"`)
	}
	if pairs == nil {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// requireSeries fails if any of the wanted series has another value, or is not there.
func (s *scraped) requireSeries(t *testing.T, want map[string]float64) {
	t.Helper()
	got := gather(t, s.registry)
	found := make(map[string]float64)
	for name := range want {
		if v, ok := got[name]; ok {
			found[name] = v
		}
	}
	require.Equal(t, want, found)
}

func labels(m prometheus.Metric) string {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		return err.Error()
	}
	return labelsOf(&d)
}
