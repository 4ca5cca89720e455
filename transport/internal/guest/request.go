package guest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/cursor"
	"github.com/fanfare-go/fanfare/internal/protocol"
)

// Request is what a peer asks for.
type Request struct {
	Channels  []string             // each once
	JoinLeave bool                 // tell of joins and leaves where the channel permits it
	Resumed   bool                 // it said where it stands
	Pings     bool                 // it wants to hear pings
	Filter    *protocol.FilterNode // of all channels; nil if there is none

	since cursor.Cursor
	lost  bool // where it stands cannot be read any more
}

// defaultMaxChannels is what a node allows its connections by default.
const defaultMaxChannels = 128

// MaxChannels is an option, or its default of 128.
func MaxChannels(option int) int {
	if option <= 0 {
		return defaultMaxChannels
	}
	return option
}

// known returns where the peer stands in a channel, if it has been there. A position that was lost on the way never matches.
func (r *Request) known(channel string) (e cursor.Entry, known bool) {
	if e, known = r.since.Lookup(channel); known {
		return e, true
	}
	if r.lost || r.since.Partial() {
		return cursor.Entry{Channel: channel, Epoch: lostEpoch}, true
	}
	return cursor.Entry{}, false
}

// ParseRequest reads "channel", which may come several times, "cursor", "filter", and the switches "join_leave" and "ping" from the
// query. A Last-Event-ID header is newer than the cursor of the query, which a browser repeats as it was. It also returns the
// query, for what else a door has to read of it.
func ParseRequest(r *http.Request, maxChannels int) (Request, url.Values, *Refusal) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Request{}, nil, BadRequest("malformed query")
	}
	var request Request
	refusal := request.addChannels(query["channel"], maxChannels)
	if refusal == nil {
		refusal = request.addWishes(query)
	}
	if refusal == nil {
		refusal = request.addCursor(query.Get("cursor"), r.Header.Get("Last-Event-ID"), maxChannels)
	}
	return request, query, refusal
}

// BadRequest is the refusal of what cannot be meant.
func BadRequest(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, args...)}
}

func (r *Request) addChannels(channels []string, most int) *Refusal {
	if len(channels) > most {
		return &Refusal{Status: http.StatusTooManyRequests, Text: fmt.Sprintf("limit exceeded: more than %d channels", most)}
	}
	for _, channel := range channels {
		switch {
		case channel == "":
			return BadRequest("channel is empty")
		case !utf8.ValidString(channel):
			return BadRequest("channel is not UTF-8")
		case !slices.Contains(r.Channels, channel):
			r.Channels = append(r.Channels, channel)
		}
	}
	return nil
}

func (r *Request) addWishes(query url.Values) *Refusal {
	for name, set := range map[string]*bool{"join_leave": &r.JoinLeave, "ping": &r.Pings} {
		v := query.Get(name)
		if v == "" {
			continue
		}
		var err error
		if *set, err = strconv.ParseBool(v); err != nil {
			return BadRequest("%s is neither true nor false", name)
		}
	}
	if v := query.Get("filter"); v != "" {
		var err error
		if r.Filter, err = protocol.DecodeJSONFilter([]byte(v)); err != nil {
			return BadRequest("filter is no tags filter in JSON")
		}
	}
	return nil
}

func (r *Request) addCursor(query, lastEventID string, maxChannels int) *Refusal {
	name, token := "cursor", query
	if lastEventID != "" {
		name, token = "Last-Event-ID", lastEventID
	}
	if token == "" {
		return nil
	}
	r.Resumed = true
	var err error
	switch r.since, err = cursor.Parse(token); {
	case errors.Is(err, cursor.ErrVersion):
		r.lost = true
	case err != nil:
		return BadRequest("%s: %v", name, err)
	case len(r.since.Named()) > maxChannels: // the peer is told of each
		return BadRequest("%s: %v", name, cursor.ErrMalformed)
	}
	return nil
}
