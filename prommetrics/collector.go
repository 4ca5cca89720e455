package prommetrics

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-go/fanfare"
)

// Config says how the metrics look. The zero value is ready to use.
type Config struct {
	// Namespace is what the names begin with. Default "fanfare".
	Namespace string
	// ConstLabels are on every metric: what tells several nodes of one process apart, for instance.
	ConstLabels prometheus.Labels
	// Buckets are the upper bounds, in seconds, of the histograms of commands and of lag, in increasing order. By default there are
	// 13, from 0.5 ms to 5 s: commands are bounded by [fanfare.Config.HookTimeout], and lag should be far below.
	Buckets []float64
}

var defaultBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// hookBuckets begin where a hook may count as slow, and go beyond the deadline that hooks have.
var hookBuckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 30}

// Collector measures nodes. It is safe for concurrent use.
type Collector struct {
	config Config
	vecs   []prometheus.Collector
	gauges gauges

	transports bounded[string, *transportSeries]
	methods    bounded[string, *methodSeries]
	patterns   bounded[string, *patternSeries]
	hooks      bounded[string, *hookSeries]

	mu    sync.Mutex                      // taken by those who change nodes
	nodes atomic.Pointer[[]*fanfare.Node] // never nil, and its slice never changes
}

var (
	_ fanfare.NodeObserver = (*Collector)(nil)
	_ prometheus.Collector = (*Collector)(nil)
)

// New returns a collector for [fanfare.Config.Observer]. It registers nothing: see [Collector.Register]. It panics, naming the
// field, if the configuration makes no metrics: a namespace or label that Prometheus does not know as one, a label that the
// metrics have already, or buckets that do not increase.
func New(config Config) *Collector {
	if config.Namespace == "" {
		config.Namespace = "fanfare"
	}
	if config.Buckets == nil {
		config.Buckets = defaultBuckets
	}
	if err := config.validate(); err != nil {
		panic(fmt.Sprintf("prommetrics: %v", err))
	}
	c := &Collector{config: config}
	c.nodes.Store(new([]*fanfare.Node))
	c.gauges = c.newGauges()
	c.newSeries()
	return c
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// ownLabels are those of the metrics.
var ownLabels = []string{"transport", "outcome", "code", "method", "pattern", "hook", "le"}

func (c *Config) validate() error {
	if !metricName.MatchString(c.Namespace) {
		return fmt.Errorf("Config.Namespace: %q cannot begin the name of a metric", c.Namespace)
	}
	for name := range c.ConstLabels {
		switch {
		case !labelName.MatchString(name) || strings.HasPrefix(name, "__"):
			return fmt.Errorf("Config.ConstLabels: %q cannot be the name of a label", name)
		case slices.Contains(ownLabels, name):
			return fmt.Errorf("Config.ConstLabels: the metrics have a label %q of their own", name)
		}
	}
	for i, b := range c.Buckets {
		if math.IsNaN(b) || i > 0 && b <= c.Buckets[i-1] {
			return errors.New("Config.Buckets: each must be larger than the one before")
		}
	}
	return nil
}

// Register registers the collector. To do so twice is no mistake. It returns an error if another collector there makes metrics of
// the same names: give one of them another [Config.Namespace], or both [Config.ConstLabels] of the same names and different values.
func (c *Collector) Register(r prometheus.Registerer) error {
	err := r.Register(c)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok && there.ExistingCollector == c {
		return nil
	}
	if err != nil {
		return fmt.Errorf("prommetrics: %w", err)
	}
	return nil
}

// Attach makes a node's numbers part of what is collected. [fanfare.New] calls it, if the collector is the node's observer. To
// attach a node twice changes nothing.
func (c *Collector) Attach(n *fanfare.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if nodes := *c.nodes.Load(); !slices.Contains(nodes, n) {
		nodes = append(slices.Clone(nodes), n)
		c.nodes.Store(&nodes)
	}
}

// Detach forgets a node. [fanfare.Node.Shutdown] calls it.
func (c *Collector) Detach(n *fanfare.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := slices.DeleteFunc(slices.Clone(*c.nodes.Load()), func(other *fanfare.Node) bool { return other == n })
	c.nodes.Store(&nodes)
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	c.gauges.describe(ch)
	for _, v := range c.vecs {
		v.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.gauges.collect(ch, c.stats())
	for _, v := range c.vecs {
		v.Collect(ch)
	}
}
