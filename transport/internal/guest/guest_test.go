package guest_test

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/transport/internal/guest"
)

// script plays the core, and keeps what the peer would be told.
type script struct {
	t      *testing.T
	guest  *guest.Guest
	told   []string
	pings  int
	isFull bool
}

func (s *script) Event(e *guest.Event) {
	line := strings.TrimSpace(fmt.Sprintf("%s %s", e.Type, e.Channel))
	switch {
	case e.Publication != nil:
		line += fmt.Sprintf(" %s", e.Publication.Data)
	case e.Code != 0:
		line += fmt.Sprintf(" %d %s", e.Code, e.Reason)
	}
	s.told = append(s.told, line)
}

func (s *script) Ping()      { s.pings++ }
func (s *script) Full() bool { return s.isFull }

// begin makes a guest of a query.
func begin(t *testing.T, query url.Values) *script {
	t.Helper()
	r := httptest.NewRequest("GET", "/?"+query.Encode(), nil)
	request, _, refusal := guest.ParseRequest(r, 10)
	require.Nil(t, refusal)
	s := &script{t: t}
	s.guest = guest.New(request, &protocol.JSONPeer{}, s)
	return s
}

// say lets the core say something, and returns what the peer is told, and what the guest answers.
func (s *script) say(lines ...string) (told []string, commands string) {
	s.t.Helper()
	for rest := []byte(strings.Join(lines, "\n") + "\n"); len(rest) > 0; {
		var err error
		rest, err = s.guest.Take(rest)
		require.NoError(s.t, err)
	}
	told, s.told = s.told, nil
	return told, string(s.guest.Commands())
}

func (s *script) cursor() string { return string(s.guest.AppendCursor(nil)) }

func channels(names ...string) url.Values { return url.Values{"channel": names} }

const (
	hello    = `{"id":1,"connect":{"client":"c"}}`
	position = `"recoverable":true,"positioned":true,"epoch":"e"`
)

func TestGuest_AsksForAllAtOnce(t *testing.T) {
	t.Parallel()
	s := begin(t, channels("a", "b", "a"))
	require.Equal(t, strings.Join([]string{
		`{"id":1,"connect":{}}`,
		`{"id":2,"subscribe":{"channel":"a","positioned":true,"recoverable":true}}`,
		`{"id":3,"subscribe":{"channel":"b","positioned":true,"recoverable":true}}`,
	}, "\n"), string(s.guest.Hello()))
	told, _ := s.say(hello, `{"id":3,"subscribe":{}}`)
	require.Empty(t, told)
	require.False(t, s.guest.Ready())
	told, _ = s.say(`{"id":2,"subscribe":{`+position+`,"offset":3}}`, `{}`)
	require.Equal(t, []string{"ready"}, told)
	require.Equal(t, 1, s.pings)

	again := begin(t, url.Values{"channel": {"a"}, "cursor": {s.cursor()}})
	require.Contains(t, string(again.guest.Hello()), `{"channel":"a","recover":true,"epoch":"e","offset":3,`)
}

func TestGuest_ComesBackFromAGap(t *testing.T) {
	t.Parallel()
	s := begin(t, channels("a", "plain"))
	s.guest.Hello()
	s.say(hello, `{"id":2,"subscribe":{`+position+`,"offset":3}}`, `{"id":3,"subscribe":{}}`)
	told, commands := s.say(`{"push":{"channel":"a","pub":{"data":4,"offset":4}}}`,
		`{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`)
	require.Equal(t, []string{"publication a 4"}, told)
	require.Equal(t, `{"id":4,"subscribe":{"channel":"a","recover":true,"epoch":"e","offset":4,"positioned":true,"recoverable":true}}`, commands)

	t.Run("with what it has missed", func(t *testing.T) {
		told, _ := s.say(`{"id":4,"subscribe":{` + position + `,"recovered":true,"was_recovering":true,"offset":4,"publications":[{"data":5,"offset":5},{"data":6,"offset":6}]}}`)
		require.Equal(t, []string{"publication a 5", "publication a 6"}, told)
	})
	t.Run("or says that it is lost", func(t *testing.T) {
		_, commands := s.say(`{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`)
		require.Contains(t, commands, `"offset":6`)
		told, _ := s.say(`{"id":5,"subscribe":{`+position+`,"was_recovering":true,"offset":100}}`, `{"push":{"channel":"a","pub":{"data":101,"offset":101}}}`)
		require.Equal(t, []string{"gap a", "publication a 101"}, told)
	})
	t.Run("without a position something may be lost", func(t *testing.T) {
		_, commands := s.say(`{"push":{"channel":"plain","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`)
		require.Equal(t, `{"id":6,"subscribe":{"channel":"plain","positioned":true,"recoverable":true}}`, commands)
		told, _ := s.say(`{"id":6,"subscribe":{}}`)
		require.Equal(t, []string{"gap plain"}, told)
	})
	t.Run("or is not let in any more", func(t *testing.T) {
		s.say(`{"push":{"channel":"plain","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`)
		told, _ := s.say(`{"id":7,"error":{"code":103,"message":"permission denied"}}`)
		require.Equal(t, []string{"unsubscribe plain 103 permission denied"}, told)
		require.Nil(t, s.guest.Refusal())
		told, _ = s.say(`{"push":{"channel":"plain","pub":{"data":1}}}`)
		require.Empty(t, told)
	})
	t.Run("or has to try again later", func(t *testing.T) {
		s.say(`{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`)
		before := s.cursor()
		s.say(`{"id":8,"error":{"code":100,"message":"internal server error","temporary":true}}`)
		require.True(t, s.guest.Refusal().Temporary)
		require.Equal(t, before, s.cursor(), "the next connection goes on from there")
	})
}

func TestGuest_TheCursorIsWholeFromTheFirstEvent(t *testing.T) {
	t.Parallel()
	s := begin(t, channels("a", "b"))
	s.guest.Hello()
	s.say(hello, `{"id":2,"subscribe":{`+position+`,"offset":3}}`, `{"id":3,"subscribe":{`+position+`,"offset":7}}`)
	again := begin(t, url.Values{"channel": {"a", "b"}, "cursor": {s.cursor()}})
	again.guest.Hello()
	again.say(hello, `{"id":2,"subscribe":{`+position+`,"recovered":true,"was_recovering":true,"offset":3,"publications":[{"data":4,"offset":4}]}}`)
	third := begin(t, url.Values{"channel": {"a", "b"}, "cursor": {again.cursor()}})
	asked := string(third.guest.Hello())
	require.Contains(t, asked, `{"channel":"a","recover":true,"epoch":"e","offset":4,`)
	require.Contains(t, asked, `{"channel":"b","recover":true,"epoch":"e","offset":7,`, "although nothing was heard of it the second time")
}

func TestGuest_WhenItIsFullItKeepsItsPositions(t *testing.T) {
	t.Parallel()
	s := begin(t, channels("a"))
	s.guest.Hello()
	s.say(hello, `{"id":2,"subscribe":{`+position+`,"offset":3}}`)
	before := s.cursor()
	s.isFull = true
	told, _ := s.say(`{"push":{"channel":"a","pub":{"data":4,"offset":4}}}`)
	require.Empty(t, told)
	require.Equal(t, before, s.cursor())
}

func TestGuest_ARefusalAfterTheBeginningIsAnEvent(t *testing.T) {
	t.Parallel()
	for committed, want := range map[bool][]string{false: nil, true: {"unsubscribe b 103 permission denied", "ready"}} {
		s := begin(t, channels("a", "b"))
		s.guest.Hello()
		s.say(hello, `{"id":2,"subscribe":{}}`)
		if committed {
			s.guest.Commit()
		}
		told, _ := s.say(`{"id":3,"error":{"code":103,"message":"permission denied"}}`)
		require.Equal(t, want, told)
		require.Equal(t, committed, s.guest.Refusal() == nil)
	}
}

func TestGuest_NonsenseIsAnError(t *testing.T) {
	t.Parallel()
	s := begin(t, channels("a"))
	_, err := s.guest.Take([]byte("nonsense\n"))
	require.Error(t, err)
}
