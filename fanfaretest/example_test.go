package fanfaretest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
)

// standIn takes the place of the *testing.T that a test has and an example has not.
type standIn struct {
	testing.TB
	cleanups []func()
}

func (s *standIn) Helper()                           {}
func (s *standIn) Cleanup(f func())                  { s.cleanups = append(s.cleanups, f) }
func (s *standIn) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (s *standIn) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (s *standIn) done() {
	for len(s.cleanups) > 0 {
		last := len(s.cleanups) - 1
		s.cleanups[last]()
		s.cleanups = s.cleanups[:last]
	}
}

func Example() {
	ctx := context.Background()
	t := &standIn{} // in a test: t *testing.T
	defer t.done()

	node, err := fanfare.New(fanfare.Config{Authenticate: fanfaretest.Authenticate})
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = node.Shutdown(ctx) })
	node.Channel("room:{id}", fanfare.ChannelOptions{
		Subscribe: func(_ context.Context, r *fanfare.SubscribeRequest) (fanfare.SubscribeReply, error) {
			if r.Client.User() != "ann" {
				return fanfare.SubscribeReply{}, fanfare.ErrPermissionDenied
			}
			return fanfare.SubscribeReply{}, nil
		},
	})

	ann := fanfaretest.Connect(t, node, "ann")
	if _, err := ann.Subscribe("room:7"); err != nil {
		t.Fatalf("%v", err)
	}
	if _, err := node.Publish(ctx, "room:7", []byte(`{"text":"hi"}`)); err != nil {
		t.Fatalf("%v", err)
	}
	event, err := ann.Next(ctx)
	if err != nil {
		t.Fatalf("%v", err)
	}
	fmt.Printf("%s in %s: %s\n", event.Kind, event.Channel, event.Publication.Data)

	eve := fanfaretest.Connect(t, node, "eve")
	_, err = eve.Subscribe("room:7")
	fmt.Println(err)

	// Output:
	// pub in room:7: {"text":"hi"}
	// 103: permission denied
}
