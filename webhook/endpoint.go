package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/sony/gobreaker/v2"

	"github.com/fanfare-go/fanfare"
)

// endpoint is one URL of the app.
type endpoint struct {
	hook    string // its name in the log
	url     string
	repeats bool // asking twice does no harm
	breaker *gobreaker.CircuitBreaker[[]byte]
}

// The kinds of problem, as they are logged.
const (
	kindUnreachable = "webhook: the app cannot be reached"
	kindTimeout     = "webhook: the app does not answer in time"
	kindAway        = "webhook: what stands in front of the app says that it is away"
	kindStatus      = "webhook: the app answers with a status that means nothing here"
	kindRedirect    = "webhook: the app redirects, which is not followed; answer 401 to whoever is not logged in"
	kindType        = "webhook: the app answers something else than JSON; is this a page?"
	kindSize        = "webhook: the app's answer is too long"
	kindSense       = "webhook: the app's answer makes no sense"
	kindPage        = "webhook: the app refuses with a page; is the endpoint exempt from CSRF protection?"
	kindBusy        = "webhook: too many calls are running; some are refused"
	kindHeaders     = "webhook: headers to forward are too long; a connection is refused"
)

// failure is a call that brought no answer to go by.
type failure struct {
	kind   string
	attrs  []slog.Attr
	down   bool  // the app is not there, or does not manage: the breaker counts it
	answer error // for the client
}

func (f *failure) Error() string { return f.kind }

func down(kind string, attrs ...slog.Attr) error {
	return &failure{kind: kind, attrs: attrs, down: true, answer: fanfare.ErrInternal}
}

func wrong(kind string, attrs ...slog.Attr) error {
	return &failure{kind: kind, attrs: attrs, answer: fanfare.ErrInternal}
}

func (h *Hooks) newEndpoint(hook, rawURL string, repeats bool) *endpoint {
	e := &endpoint{hook: hook, url: rawURL, repeats: repeats}
	limit := h.config.Breaker.Failures
	e.breaker = gobreaker.NewCircuitBreaker[[]byte](gobreaker.Settings{
		Name:        hook,
		Timeout:     h.config.Breaker.OpenFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return limit > 0 && int64(c.ConsecutiveFailures) >= int64(limit) },
		IsSuccessful: func(err error) bool {
			f, ok := errors.AsType[*failure](err)
			return err == nil || ok && !f.down
		},
		// The client left: that says nothing about the app.
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: h.breakerChanged,
	})
	return e
}

// breakerChanged is called with the breaker's lock held.
func (h *Hooks) breakerChanged(hook string, from, to gobreaker.State) {
	switch {
	case from == gobreaker.StateClosed && to == gobreaker.StateOpen:
		h.report.log.Warn("webhook: the app fails again and again; it is left alone, and asked now and then", slog.String("hook", hook),
			slog.Duration("every", h.config.Breaker.OpenFor))
	case to == gobreaker.StateClosed:
		h.report.forget(hook)
		h.report.log.Info("webhook: the app is back", slog.String("hook", hook))
	}
}

// call asks the app. Its errors are for the client, or say that the client is gone.
func (h *Hooks) call(ctx context.Context, e *endpoint, s *State, question any) ([]byte, error) {
	if e == nil {
		return nil, fanfare.ErrNotAvailable
	}
	body, err := encode(question)
	if err != nil {
		return nil, fmt.Errorf("webhook: %s: %w", e.hook, err)
	}
	// A breaker that is open costs nobody a place.
	if e.breaker.State() == gobreaker.StateOpen {
		return nil, fanfare.ErrInternal
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, h.config.Timeout)
	defer cancel()
	if err := h.enter(ctx); err != nil {
		return nil, h.tell(parent, e, err)
	}
	defer h.leave()
	answer, err := e.breaker.Execute(func() ([]byte, error) { return h.ask(ctx, parent, e, s, body) })
	if err != nil {
		return nil, h.tell(parent, e, err)
	}
	return answer, nil
}

// tell logs what went wrong, and returns what the client is to be told.
func (h *Hooks) tell(parent context.Context, e *endpoint, err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		if f.kind != "" {
			h.report.warn(e.hook, f.kind, f.attrs...)
		}
		return f.answer
	}
	if errors.Is(parent.Err(), context.Canceled) {
		return parent.Err()
	}
	return fanfare.ErrInternal // the breaker has opened meanwhile, which is logged
}

// enter waits for a place, for a third of the time: a call that began at the end of it would be lost anyway.
func (h *Hooks) enter(ctx context.Context) error {
	select {
	case h.places <- struct{}{}:
		return nil
	default:
	}
	wait, cancel := context.WithTimeout(ctx, h.config.Timeout/3)
	defer cancel()
	select {
	case h.places <- struct{}{}:
		return nil
	case <-wait.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return context.Canceled
		}
		return &failure{kind: kindBusy, attrs: []slog.Attr{slog.Int("max", h.config.MaxConcurrent)}, answer: fanfare.ErrTooManyRequests}
	}
}

func (h *Hooks) leave() { <-h.places }

// ask makes the call.
func (h *Hooks) ask(ctx, parent context.Context, e *endpoint, s *State, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, wrong(kindUnreachable) // cannot be: the URL was checked
	}
	h.dress(r, e, s)
	resp, err := h.client.Do(r)
	if err != nil {
		return nil, unreachable(ctx, parent, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, int64(h.config.MaxAnswer)+1))
	if err != nil {
		return nil, unreachable(ctx, parent, err)
	}
	if err := judge(resp); err != nil {
		return nil, err
	}
	if len(answer) > h.config.MaxAnswer {
		return nil, wrong(kindSize, slog.Int("max", h.config.MaxAnswer))
	}
	return answer, nil
}

// dress sets the headers of a call.
func (h *Hooks) dress(r *http.Request, e *endpoint, s *State) {
	for name, values := range s.header {
		r.Header[name] = values
	}
	if len(r.Header["User-Agent"]) == 0 {
		r.Header["User-Agent"] = []string{"fanfare-webhook"}
	}
	for name, values := range h.static {
		r.Header[name] = values
	}
	if host := h.static.Get("Host"); host != "" {
		r.Host = host
		delete(r.Header, "Host")
	}
	r.Header["Content-Type"] = []string{"application/json"}
	r.Header["Accept"] = []string{"application/json"}
	if _, ok := r.Header["Idempotency-Key"]; !ok && e.repeats {
		// Sends nothing, but lets the client repeat a call that a server did not take because it was closing the connection.
		r.Header["Idempotency-Key"] = []string{}
	}
}

// unreachable names what was wrong without the URL, which may hold a secret.
func unreachable(ctx, parent context.Context, err error) error {
	switch {
	case errors.Is(parent.Err(), context.Canceled):
		return context.Canceled
	case ctx.Err() != nil:
		return down(kindTimeout)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return down(kindTimeout)
		}
		err = u.Err
	}
	return down(kindUnreachable, slog.String("err", networkProblem(err)))
}

// networkProblem is the text of errors that hold nothing of what the app sent.
func networkProblem(err error) string {
	if o, ok := errors.AsType[*net.OpError](err); ok {
		return o.Error()
	}
	if c, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return c.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the connection ends within the answer"
	}
	return "the answer is no HTTP, or too long a header"
}

// judge goes by status and type.
func judge(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	status := slog.Int("status", resp.StatusCode)
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		f := &failure{answer: fanfare.ErrPermissionDenied}
		if code == http.StatusUnauthorized {
			f.answer = fanfare.ErrUnauthorized
		}
		if kind == "text/html" && code == http.StatusForbidden {
			f.kind, f.attrs = kindPage, []slog.Attr{status}
		}
		return f
	case code == http.StatusTooManyRequests:
		return &failure{answer: fanfare.ErrTooManyRequests}
	case code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout:
		return down(kindAway, status)
	case code >= 300 && code < 400:
		return wrong(kindRedirect, status, slog.String("where", direction(resp)))
	case code != http.StatusOK:
		return wrong(kindStatus, status)
	case kind != "application/json" && !strings.HasSuffix(kind, "+json"):
		return wrong(kindType, slog.String("content_type", cut(kind, 60)))
	}
	return nil
}

// direction says where a redirect leads, as far as that is told without its text: that may hold a secret.
func direction(resp *http.Response) string {
	to, err := resp.Location()
	asked := resp.Request.URL
	switch {
	case err != nil:
		return "nowhere"
	case to.Host == asked.Host && to.Path == asked.Path+"/":
		return "to the same path with a slash at its end: put that into the URL"
	case to.Path == asked.Path && to.Scheme == "https" && asked.Scheme == "http":
		return "to https: use that in the URL, or put the app's header for it (X-Forwarded-Proto) into Config.Static"
	}
	return "elsewhere"
}

// encode leaves <, > and & as they are: the app knows what it gets.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}
