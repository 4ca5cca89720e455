package fanfare

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/internal/doctor"
	"github.com/fanfare-go/fanfare/transport"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

// maxSubjects bounds how often one finding is told of one door with another subject. Subjects may come from clients.
const maxSubjects = 8

// practice is what [Config.Development] makes: it examines every request, and says each finding once.
type practice struct {
	log     *slog.Logger
	allowed []string // Config.AllowedOrigins

	mu   sync.Mutex // guards below
	told map[complaint][]string
}

// complaint is a finding of a door; there are as many as doors times keys.
type complaint struct{ door, key string }

func newPractice(c *Config) *practice {
	if !c.Development {
		return nil
	}
	return &practice{log: c.Logger, allowed: slices.Clone(c.AllowedOrigins), told: make(map[complaint][]string)}
}

// first reports whether a finding has not been told yet.
func (p *practice) first(door, key, subject string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := complaint{door, key}
	if told := p.told[c]; len(told) == maxSubjects || slices.Contains(told, subject) {
		return false
	}
	p.told[c] = append(p.told[c], subject)
	return true
}

func (p *practice) tell(door string, f doctor.Finding) {
	if !p.first(door, f.Key, f.Subject) {
		return
	}
	level := slog.LevelWarn
	if f.Note {
		level = slog.LevelInfo
	}
	p.log.Log(context.Background(), level, f.Text, slog.String("transport", door), slog.String("finding", f.Key))
}

// serve serves a request as the node does, and looks on.
func (p *practice) serve(t transport.Transport, w http.ResponseWriter, r *http.Request, a acceptor) {
	v := &visit{acceptor: a, practice: p, door: t.Name(), kind: kindOf(t.Name()), w: w, r: r}
	v.find(doctor.Examine(w, r, v.kind)...)
	if r.ContentLength > 0 && r.Body != nil {
		r = r.WithContext(r.Context()) // a copy
		r.Body = &watchedBody{ReadCloser: r.Body, visit: v}
	}
	if v.kind == doctor.Stream && doctor.CanFlush(w) {
		w = &watchedWriter{ResponseWriter: w, visit: v}
	}
	t.Serve(w, r, v)
}

// strayed looks at a request for which there is no door: a handshake may have lost what makes it one.
func (p *practice) strayed(w http.ResponseWriter, r *http.Request) {
	for _, f := range doctor.Examine(w, r, doctor.Upgrade) {
		p.tell("websocket", f)
	}
}

func kindOf(door string) doctor.Kind {
	switch {
	case door == "websocket" || door == "uni_websocket":
		return doctor.Upgrade
	case holdsResponse(door):
		return doctor.Stream
	}
	return doctor.Brief
}

// visit is one request under examination, and the node as its transport sees it.
type visit struct {
	acceptor
	practice *practice
	door     string
	kind     doctor.Kind
	w        http.ResponseWriter
	r        *http.Request
	sick     atomic.Bool
}

var _ transport.Acceptor = (*visit)(nil)

func (v *visit) find(found ...doctor.Finding) {
	for _, f := range found {
		if !f.Note {
			v.sick.Store(true)
		}
		v.practice.tell(v.door, f)
	}
}

// well says once that a door works, if nothing was found.
func (v *visit) well(text string) {
	if !v.sick.Load() {
		v.practice.tell(v.door, doctor.Finding{Key: "well", Text: text, Note: true})
	}
}

// CheckOrigin implements [transport.Acceptor].
func (v *visit) CheckOrigin(r *http.Request) bool {
	ok := v.acceptor.CheckOrigin(r)
	if !ok {
		v.find(doctor.Refused(r, v.practice.allowed))
	}
	return ok
}

// Report implements [transport.Acceptor]. A writer that has a Hijack need not be able to.
func (v *visit) Report(r *http.Request, name string, err error) {
	v.acceptor.Report(r, name, err)
	if v.kind == doctor.Upgrade && !v.sick.Load() && errors.Is(err, websocket.ErrHijack) {
		v.find(doctor.FailedHijack(v.w, err))
	}
}

// Accept implements [transport.Acceptor].
func (v *visit) Accept(r *http.Request, conn transport.Conn) (transport.Session, error) {
	s, err := v.acceptor.Accept(r, conn)
	if err == nil && v.kind == doctor.Upgrade {
		if doctor.Switches(v.w) == doctor.Withheld {
			v.find(doctor.Unswitched(v.w))
		}
		v.well("nothing stands in the way of this door")
	}
	return s, err
}

// flushed is called once something was written and flushed on a stream.
func (v *visit) flushed() {
	switch doctor.Arrives(v.w) {
	case doctor.Withheld:
		v.find(doctor.Kept(v.w))
	case doctor.Arrived:
		v.well("nothing stands in the way of this door, within the app; a proxy in front may still hold streams back")
	case doctor.Unknown:
		v.well("nothing was found that stands in the way of this door, but whether what is flushed leaves the app at once " +
			"cannot be seen through " + doctor.Chain(v.w))
	}
}

// watchedWriter looks whether the first bytes of a stream leave. Like those below it, it is used by one goroutine at a time.
type watchedWriter struct {
	http.ResponseWriter
	visit   *visit
	wrote   bool
	settled bool
}

func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watchedWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.wrote = w.wrote || n > 0
	return n, err
}

// FlushError implements what [http.ResponseController.Flush] looks for.
func (w *watchedWriter) FlushError() error {
	err := http.NewResponseController(w.ResponseWriter).Flush()
	if err == nil && w.wrote && !w.settled {
		w.settled = true
		w.visit.flushed()
	}
	return err
}

// watchedBody notices a body that has been read already.
type watchedBody struct {
	io.ReadCloser
	visit *visit
	read  bool // something was
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n == 0 && err == io.EOF && !b.read {
		b.visit.find(doctor.NoBody(b.visit.r))
	}
	b.read = b.read || n > 0
	return n, err
}
