package delivery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/fanfare-go/fanfare"
)

// get makes a request without an SDK, for all channels of a client.
func (c *client) get(ctx context.Context, t *http.Transport, path string, query url.Values, lastID string) (*http.Response, error) {
	query["channel"] = c.channels
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	response, err := t.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	return nil, refusal{response.StatusCode, strings.TrimSpace(string(text))}
}

// refusal is an answer of another status than 200.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.text) }

// visitEvents does what a browser's EventSource does.
func visitEvents() func(context.Context, *client) error {
	var lastID string
	return func(ctx context.Context, c *client) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		response, err := c.get(ctx, newTransport(), "/events", url.Values{"event": {"channel"}}, lastID)
		if errors.As(err, new(refusal)) {
			c.problem("a browser would not come again: %v", err)
		}
		if err != nil {
			return err
		}
		defer response.Body.Close()
		done := make(chan struct{})
		defer close(done)
		if leaving := c.leaving(); leaving != nil {
			go func() { // ends with the visit
				select {
				case <-leaving:
					cancel()
				case <-done:
				}
			}()
		}
		r := bufio.NewReader(response.Body)
		for {
			e, err := readEvent(r)
			if err != nil {
				return err
			}
			if e.id != "" {
				lastID = e.id
			}
			if err := c.takeEvent(e); err != nil {
				c.problem("%v", err)
				return err
			}
		}
	}
}

type event struct{ kind, id, data string }

// readEvent reads until the empty line that ends an event. Of one without data a page hears nothing.
func readEvent(r *bufio.Reader) (e event, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return event{}, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.kind = value
		case "id":
			e.id = value
		case "data":
			e.data += value
		case "":
			if line == "\n" && e != (event{}) {
				return e, nil
			}
		}
	}
}

func (c *client) takeEvent(e event) error {
	if e.kind == "" || e.id == "" {
		return nil
	}
	positions, err := fanfare.DecodeCursor(e.id, c.channels...)
	if err != nil {
		return fmt.Errorf("id %q: %w", e.id, err)
	}
	switch e.kind {
	case "ready":
		c.beginAt(positions)
	case "gap":
		var told struct{ Channel string }
		if err := json.Unmarshal([]byte(e.data), &told); err != nil {
			return fmt.Errorf("gap %q: %w", e.data, err)
		}
		c.tell(told.Channel, Scene{Kind: Told, At: positions[told.Channel]})
	case "unsubscribe", "disconnect": // the stream ends, or begins anew
	default:
		at, ok := positions[e.kind]
		if !ok {
			return fmt.Errorf("event %q that nobody knows", e.kind)
		}
		if _, begun := c.position(e.kind); !begun { // while other channels are still asked for
			c.tell(e.kind, Scene{Kind: Began, At: fanfare.Position{Offset: at.Offset - 1, Epoch: at.Epoch}})
		}
		c.tell(e.kind, Scene{Seen, at, e.data})
	}
	return nil
}

// beginAt begins in those channels in which the client has not.
func (c *client) beginAt(positions map[string]fanfare.Position) {
	for channel, at := range positions {
		if _, begun := c.position(channel); !begun {
			c.tell(channel, Scene{Kind: Began, At: at})
		}
	}
}

// visitPoll does what a script with a loop does.
func visitPoll() func(context.Context, *client) error {
	var cursor string
	transport := newTransport()
	return func(ctx context.Context, c *client) error {
		query := url.Values{}
		if cursor != "" {
			query.Set("cursor", cursor)
			query.Set("wait", "1500ms")
		}
		response, err := c.get(ctx, transport, "/poll", query, "")
		if r, ok := errors.AsType[refusal](err); ok && r.status < 500 {
			c.problem("refused for good: %v", err)
		}
		if err != nil {
			return err
		}
		defer response.Body.Close()
		var a answer
		if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		positions, err := fanfare.DecodeCursor(a.Cursor, c.channels...)
		if err != nil {
			c.problem("cursor %q: %v", a.Cursor, err)
			return err
		}
		if cursor == "" { // but something may have come already
			begin := maps.Clone(positions)
			for _, e := range a.Events {
				at := begin[e.Channel]
				begin[e.Channel] = fanfare.Position{Offset: at.Offset - 1, Epoch: at.Epoch}
			}
			c.beginAt(begin)
		}
		cursor = a.Cursor
		for _, channel := range c.channels {
			c.takeAnswer(channel, &a, positions[channel])
		}
		return nil
	}
}

type answer struct {
	Cursor string
	Events []polled
}

type polled struct {
	Type, Channel string
	Data          json.RawMessage
}

// takeAnswer takes what an answer says of a channel. Only its end has a position: the events before a gap are counted from where
// the client stood, those after it, and the gap itself, from the end. What is between two gaps cannot be placed, and need not be.
func (c *client) takeAnswer(channel string, a *answer, end fanfare.Position) {
	var before, after []polled
	gap := false
	for _, e := range a.Events {
		switch {
		case e.Channel != channel:
		case e.Type == "gap":
			gap, after = true, nil
		case e.Type != "publication":
		case gap:
			after = append(after, e)
		default:
			before = append(before, e)
		}
	}
	at, _ := c.position(channel)
	for _, e := range before {
		at.Offset++
		c.tell(channel, Scene{Seen, at, string(e.Data)})
	}
	if gap {
		at = fanfare.Position{Offset: end.Offset - uint64(len(after)), Epoch: end.Epoch}
		c.tell(channel, Scene{Kind: Told, At: at})
	}
	for _, e := range after {
		at.Offset++
		c.tell(channel, Scene{Seen, at, string(e.Data)})
	}
	if at != end {
		c.problem("%s: the cursor stands at %v, what came with it ends at %v", channel, end, at)
	}
}
