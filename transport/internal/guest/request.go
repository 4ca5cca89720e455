package guest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

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

// ParseRequest reads "channel", which may come several times, "cursor", "filter", and the switches "join_leave" and "ping" from a
// query. A Last-Event-ID header is newer than the cursor of the query, which a browser repeats as it was. Errors are for the
// peer: status 400.
func ParseRequest(r *http.Request, query url.Values) (Request, error) {
	var request Request
	for _, channel := range query["channel"] {
		if channel == "" {
			return Request{}, errors.New("channel is empty")
		}
		if !slices.Contains(request.Channels, channel) {
			request.Channels = append(request.Channels, channel)
		}
	}
	var err error
	for name, set := range map[string]*bool{"join_leave": &request.JoinLeave, "ping": &request.Pings} {
		if v := query.Get(name); v != "" {
			if *set, err = strconv.ParseBool(v); err != nil {
				return Request{}, errors.New(name + " is neither true nor false")
			}
		}
	}
	if v := query.Get("filter"); v != "" {
		if request.Filter, err = protocol.DecodeJSONFilter([]byte(v)); err != nil {
			return Request{}, errors.New("filter is no tags filter in JSON")
		}
	}
	name, token := "cursor", query.Get("cursor")
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		name, token = "Last-Event-ID", id
	}
	if token == "" {
		return request, nil
	}
	request.Resumed = true
	switch request.since, err = cursor.Parse(token); {
	case errors.Is(err, cursor.ErrVersion):
		request.lost = true
	case err != nil:
		return Request{}, fmt.Errorf("%s: %w", name, err)
	}
	return request, nil
}
