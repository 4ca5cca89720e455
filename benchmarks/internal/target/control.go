package target

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

const (
	// minSize is room for the longest time and number that a message can carry.
	minSize = 64
	maxSize = 1 << 20
)

// PublishFunc publishes one message by the program's own means. It is called by one goroutine at a time.
type PublishFunc func(ctx context.Context, channel string, data []byte) error

// HandleControl adds the control endpoints of loadgen's README to mux.
func HandleControl(mux *http.ServeMux, publish PublishFunc) {
	p := &publisher{publish: publish}
	mux.HandleFunc("POST /publish", p.serve)
	mux.HandleFunc("POST /gc", func(http.ResponseWriter, *http.Request) {
		runtime.GC()
		debug.FreeOSMemory()
	})
	mux.HandleFunc("GET /memstats", memStats)
}

// publisher numbers the messages of the process.
type publisher struct {
	publish PublishFunc

	mu       sync.Mutex // guards below, and the order of the calls of publish
	messages uint64
}

type publishRequest struct {
	channel  string
	channels int
	count    int
	rate     float64
	size     int
}

func parsePublish(q url.Values) (publishRequest, error) {
	r := publishRequest{channel: q.Get("channel"), count: 1, size: 128}
	ints := []struct {
		name     string
		value    *int
		min, max int
	}{
		{"channels", &r.channels, 0, 1 << 30}, {"count", &r.count, 0, 1 << 30}, {"size", &r.size, minSize, maxSize},
	}
	for _, i := range ints {
		s := q.Get(i.name)
		if s == "" {
			continue
		}
		v, err := strconv.Atoi(s)
		if err != nil || v < i.min || v > i.max {
			return r, fmt.Errorf("%s=%q must be from %d to %d", i.name, s, i.min, i.max)
		}
		*i.value = v
	}
	if s := q.Get("rate"); s != "" {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= 0 && v <= 1e6) {
			return r, fmt.Errorf("rate=%q must be from 0 to 1000000 per second", s)
		}
		r.rate = v
	}
	if r.channel == "" {
		return r, fmt.Errorf("channel is missing")
	}
	return r, nil
}

func (p *publisher) serve(w http.ResponseWriter, r *http.Request) {
	req, err := parsePublish(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := p.run(r.Context(), req); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (p *publisher) run(ctx context.Context, r publishRequest) error {
	start := time.Now()
	for i := range r.count {
		if r.rate > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(float64(i) / r.rate * float64(time.Second)))))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		channel := r.channel
		if r.channels > 0 {
			channel += strconv.Itoa(rand.IntN(r.channels))
		}
		if err := p.one(ctx, channel, r.size); err != nil {
			return err
		}
	}
	return nil
}

// one holds the lock while it publishes: clients check that the numbers rise.
func (p *publisher) one(ctx context.Context, channel string, size int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages++
	return p.publish(ctx, channel, message(time.Now().UnixNano(), p.messages, size))
}

// message is a payload of exactly size bytes that carries its time and number.
func message(at int64, number uint64, size int) []byte {
	b := make([]byte, 0, size)
	b = strconv.AppendInt(append(b, `{"t":`...), at, 10)
	b = strconv.AppendUint(append(b, `,"n":`...), number, 10)
	b = append(b, `,"p":"`...)
	b = append(b, bytes.Repeat([]byte{'x'}, size-len(b)-len(`"}`))...)
	return append(b, `"}`...)
}

func memStats(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.Header().Set("Content-Type", "application/json")
	// A client that went away gets nothing, and nobody else needs to know.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"goroutines":    runtime.NumGoroutine(),
		"heap_alloc":    m.HeapAlloc,
		"heap_objects":  m.HeapObjects,
		"heap_inuse":    m.HeapInuse,
		"heap_released": m.HeapReleased,
		"stack_inuse":   m.StackInuse,
		"other_sys":     m.MSpanSys + m.MCacheSys + m.BuckHashSys + m.GCSys + m.OtherSys,
		"sys":           m.Sys,
		"num_gc":        m.NumGC,
		"mallocs":       m.Mallocs,
	})
}
