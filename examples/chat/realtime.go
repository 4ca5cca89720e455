package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/fanfare-go/fanfare"
)

// errSignedOut ends streams. Codes from 4500 to 4999 are the app's own; the page knows this one.
var errSignedOut = &fanfare.Disconnect{Code: 4501, Reason: "signed out"}

// newNode returns the node that carries rooms live. It is everything that the app says to fanfare, but for the calls of
// Publish, Presence, Cursor and Disconnect in the handlers.
func newNode(st *store, se *sessions, logger *slog.Logger) (*fanfare.Node, error) {
	node, err := fanfare.New(fanfare.Config{
		Logger:      logger,
		Development: true, // says what stands between the pages and the node, if something does; leave it out in production
		Authenticate: func(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			user, expires, ok := se.user(r.HTTP)
			if !ok {
				return fanfare.Identity{}, fanfare.ErrUnauthorized
			}
			return fanfare.Identity{User: user, ExpireAt: expires}, nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	node.Channel("room:{id}", fanfare.ChannelOptions{
		// Whether a user may see a room is decided here, in a real app by asking the database.
		Subscribe: func(_ context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			if _, ok := st.room(r.Param("id")); !ok {
				return fanfare.SubscribeReply{}, fanfare.ErrUnknownChannel
			}
			return fanfare.SubscribeReply{}, nil
		},
		// Enough for a phone that was in a tunnel. Who was away longer is told so, and the page asks the store.
		History:        fanfare.History{Size: 100, TTL: 24 * time.Hour},
		Presence:       true,
		ForceJoinLeave: true,
		// Pages list people: who has three tabs is one of them, and who reloads a page has not left.
		JoinLeavePerUser: true,
		PresenceGrace:    3 * time.Second,
	})
	return node, nil
}

func roomChannel(id string) string { return "room:" + id }

// publish shows a stored message to everybody in its room. The id as idempotency key makes it safe to call again for a
// message that perhaps was published already.
func publish(ctx context.Context, node *fanfare.Node, m message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	// The sender may be gone by now, with its request's context; the message is stored, and the others want to see it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err = node.Publish(ctx, roomChannel(m.Room), data, fanfare.WithIdempotencyKey(strconv.Itoa(m.ID)))
	return err
}
