package server

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/prommetrics"
)

// useMetrics measures the node, the process and the Go runtime, and returns what Prometheus scrapes. The registry is the
// server's own, so that there may be several in one process.
func (s *Server) useMetrics(nc *fanfare.Config) (http.Handler, error) {
	metrics := prommetrics.New(prommetrics.Config{})
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := metrics.Register(registry); err != nil {
		return nil, err
	}
	nc.Observer = metrics
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}), nil
}
