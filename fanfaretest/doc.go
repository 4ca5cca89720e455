// Package fanfaretest lets an app test its channels and hooks without a network.
//
// [Connect] opens a connection to a node from inside the test: no listener, no port, no WebSocket. It goes through the
// app's own hooks, like a browser does, and fails the test if it is refused:
//
//	func TestRoom(t *testing.T) {
//		node := newNode(t) // as in production
//		ann := fanfaretest.Connect(t, node, "ann")
//
//		_, err := ann.Subscribe("room:7")
//		require.NoError(t, err)
//		_, err = node.Publish(t.Context(), "room:7", []byte(`"hi"`))
//		require.NoError(t, err)
//
//		event, err := ann.Next(t.Context())
//		require.NoError(t, err)
//		require.Equal(t, fanfaretest.KindPublication, event.Kind, event)
//		require.Equal(t, `"hi"`, string(event.Publication.Data))
//	}
//
// Where a channel tells of joins, the client's own comes first.
//
// # Who is connected
//
// The user is put into the context of the request that opens the connection, where an app's own middleware would have
// put its session. [User] finds it there. An app whose Authenticate hook needs more than that can have its middleware's
// traces set by [WithRequest], or sends a token with [WithToken]. A node made only for a test can use [Authenticate] as
// its hook.
//
// # What was refused
//
// Commands return an *[fanfare.Error] when the server answers with one, and a *[fanfare.Disconnect] when it closes the
// connection, so errors.Is(err, fanfare.ErrPermissionDenied) is the test of a refusal. To see a connection refused,
// call [Dial], which only opens it, and then [Client.Connect], which returns the error.
//
// # Time
//
// Everything here works inside a testing/synctest bubble, where pings, expiry and timeouts take no time: make the node
// and its clients inside. Commands wait five seconds for their reply, like the published clients do; [WithTimeout]
// changes that. After synctest.Wait, [Client.Events] returns what has come, without waiting for more.
//
// # A strict reader
//
// A client reads what the server sends with a decoder of its own, and fails the test when the server breaks the protocol:
// a reply to nobody, a publication before the reply to its subscribe, an offset that goes back. [Client.Check] returns
// these too, and what is wrong in most channels only: a gap between the offsets of publications, for instance, which is
// a fault except where only the latest publication matters.
//
// All functions and methods are safe for concurrent use.
package fanfaretest
