package prommetrics_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/prommetrics"
)

func Example() {
	metrics := prommetrics.New(prommetrics.Config{})
	node, err := fanfare.New(fanfare.Config{Observer: metrics})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Shutdown(context.Background())
	node.Channel("room:{id}", fanfare.ChannelOptions{Public: true})

	registry := prometheus.NewRegistry() // or prometheus.DefaultRegisterer, which promhttp.Handler serves
	if err := metrics.Register(registry); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/connection/", node)
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	// What Prometheus sees.
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "fanfare_subscriptions{") {
			fmt.Print(line)
		}
	}
	// Output:
	// fanfare_subscriptions{pattern="room:{id}"} 0
}
