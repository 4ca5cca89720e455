package websocket_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport/transporttest"
	"github.com/fanfare-go/fanfare/transport/websocket"
)

// onEngines runs a test on both engines.
func onEngines(t *testing.T, test func(t *testing.T, door *websocket.Transport)) {
	t.Helper()
	t.Parallel()
	for engine, portable := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, websocket.New(websocket.Options{PortableIO: portable}))
		})
	}
}

func TestEngine_TakesFramesThatDrip(t *testing.T) {
	onEngines(t, func(t *testing.T, door *websocket.Transport) {
		a, target := setup(t, door, nil)
		stream := bytes.Join([][]byte{
			masked(0x01, []byte("one ")), masked(0x89, []byte("hi")), masked(0x80, []byte("two")),
			masked(0x81, bytes.Repeat([]byte("x"), 200)), masked(0x88, []byte{0x03, 0xe8}),
		}, nil)
		p := open(t, target, nil, stream[:3]...)
		for _, b := range stream[3:] {
			require.NoError(t, p.raw([]byte{b}))
		}
		s := a.Next(t)
		require.Equal(t, "one two", string(s.Frame(t)))
		require.Len(t, s.Frame(t), 200)
		_, err := p.Next()
		require.Equal(t, &transporttest.Closed{Code: 1000}, err)
		require.EqualValues(t, 1, p.Pongs())
		require.NoError(t, s.Ended(t))
	})
}

func TestEngine_TakesManyFramesAtOnce(t *testing.T) {
	onEngines(t, func(t *testing.T, door *websocket.Transport) {
		a, target := setup(t, door, nil)
		const n = 4000
		var stream []byte
		for i := range n {
			stream = append(stream, masked(0x81, fmt.Append(nil, i))...)
		}
		p := open(t, target, nil, stream[:1000]...)
		require.NoError(t, p.raw(stream[1000:]))
		s := a.Next(t)
		for i := range n {
			require.Equal(t, fmt.Sprint(i), string(s.Frame(t)))
		}
	})
}

func TestEngine_EndsWithThePeersHalf(t *testing.T) {
	onEngines(t, func(t *testing.T, door *websocket.Transport) {
		a, target := setup(t, door, nil)
		whole := masked(0x81, bytes.Repeat([]byte("a"), 5000))
		for cut, ordinary := range map[int]bool{len(whole): true, 1: false, 4: false, 3000: false} {
			p := open(t, target, nil, whole[:min(cut, 10)]...)
			require.NoError(t, p.raw(whole[min(cut, 10):cut]))
			require.NoError(t, p.conn.(*net.TCPConn).CloseWrite())
			s := a.Next(t)
			if ordinary {
				require.Len(t, s.Frame(t), 5000)
				require.NoError(t, s.Ended(t))
			} else if cut > 4 {
				require.Error(t, s.Ended(t))
			} else {
				_ = s.Ended(t) // a header that was cut short may look like an ordinary end
			}
			_, err := io.ReadAll(p.br)
			require.NoError(t, err, "the socket is closed")
		}
	})
}

func TestEngine_EndsWithAResetInAMessage(t *testing.T) {
	onEngines(t, func(t *testing.T, door *websocket.Transport) {
		a, target := setup(t, door, nil)
		p := open(t, target, nil)
		require.NoError(t, p.raw(append(masked(0x81, []byte("whole")), masked(0x81, make([]byte, 3000))[:1000]...)))
		s := a.Next(t)
		s.Frame(t)
		require.NoError(t, p.conn.(*net.TCPConn).SetLinger(0))
		require.NoError(t, p.Drop())
		require.Error(t, s.Ended(t))
		require.Zero(t, s.Frames())
		require.Error(t, s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, []byte("late"))))
	})
}

func TestEngine_FinishesWhatASlowPeerTakes(t *testing.T) {
	onEngines(t, func(t *testing.T, door *websocket.Transport) {
		a, target := setup(t, door, nil)
		p := open(t, target, nil)
		s := a.Next(t)
		message := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // far more than the socket holds
		written := make(chan error, 1)
		go func() { // ends when all is read
			written <- s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, message, []byte("last")))
		}()
		for range 20 {
			require.NoError(t, p.Ping(), "control frames wait for the message")
		}
		got, err := p.Next()
		require.NoError(t, err)
		require.True(t, bytes.Equal(message, got[0]))
		got, err = p.Next()
		require.NoError(t, err)
		require.Equal(t, "last", string(got[0]))
		require.NoError(t, <-written)
		require.NoError(t, p.Leave())
		_, err = p.Next()
		require.Equal(t, &transporttest.Closed{Code: 1000}, err)
		require.EqualValues(t, 20, p.Pongs())
	})
}

func TestEngine_BlockedSessionsStopNobodyElse(t *testing.T) {
	onEngines(t, func(t *testing.T, door *websocket.Transport) {
		a, target := setup(t, door, nil)
		release := make(chan struct{})
		a.Receive = func(_ *transporttest.Session, frame []byte) error {
			if string(frame) == "block" {
				<-release
			}
			return nil
		}
		t.Cleanup(func() { close(release) })
		for range 600 {
			p := open(t, target, nil)
			require.NoError(t, p.Send([]byte("block")))
			a.Next(t).Frame(t)
		}
		p := open(t, target, nil)
		require.NoError(t, p.Send([]byte("alive")))
		require.Equal(t, "alive", string(a.Next(t).Frame(t)))
	})
}

// TestEngine_SurvivesRacesOfClosing lets everything that can end a connection happen at once. That calls do not overlap and
// Closed comes once is for the acceptor to check.
func TestEngine_SurvivesRacesOfClosing(t *testing.T) {
	onEngines(t, func(t *testing.T, door *websocket.Transport) {
		a, target := setup(t, door, nil)
		var all sync.WaitGroup
		for i := range 150 {
			p := open(t, target, nil)
			s := a.Next(t)
			frame := s.Conn.Info().Framing.AppendFrame(nil, bytes.Repeat([]byte("x"), 20_000))
			ways := []func(){
				func() { _ = s.Conn.Close(3001, "shutdown") },
				func() { _ = s.Conn.Close(0, "") },
				func() { _ = p.Leave() },
				func() { _ = p.Drop() },
				func() { _ = p.raw([]byte("\x81\x02hi")) },
				func() { _ = p.Send([]byte("\xff")) },
				func() { _ = p.Ping() },
				func() {
					for s.Conn.Write(frame) == nil {
					}
				},
				func() {
					for {
						if _, err := p.Next(); err != nil {
							return
						}
					}
				},
			}
			rand.Shuffle(len(ways), func(i, j int) { ways[i], ways[j] = ways[j], ways[i] })
			for _, way := range ways[:2+i%(len(ways)-1)] {
				all.Go(way)
			}
			all.Go(func() {
				_ = s.Conn.Close(3000, "at last")
				_ = s.Conn.Close(0, "")
			})
		}
		all.Wait()
	})
}

// TestEngine_LeavesNothingBehind is not parallel: it counts what the process has.
func TestEngine_LeavesNothingBehind(t *testing.T) {
	for engine, portable := range engines {
		t.Run(engine, func(t *testing.T) {
			door := websocket.New(websocket.Options{PortableIO: portable})
			a, target := setup(t, door, nil)
			open(t, target, nil).conn.Close() // what the first connection brings up for good
			_ = a.Next(t).Ended(t)
			files, goroutines := openFiles(t), runtime.NumGoroutine()
			for range 10 {
				var wave sync.WaitGroup
				for range 200 {
					p := open(t, target, nil, masked(0x81, []byte("x"))...)
					s := a.Next(t)
					wave.Go(func() { _ = p.Leave() })
					wave.Go(func() {
						_ = s.Ended(t)
						_ = p.Drop()
					})
				}
				wave.Wait()
			}
			// Not require.Eventually, which has goroutines of its own.
			for deadline := time.Now().Add(20 * time.Second); openFiles(t) > files || runtime.NumGoroutine() > goroutines; {
				require.True(t, time.Now().Before(deadline), "%d files and %d goroutines, where %d and %d were before",
					openFiles(t), runtime.NumGoroutine(), files, goroutines)
				<-time.After(time.Millisecond)
			}
		})
	}
}

// openFiles is the number of files that the process has open, or 0 where that cannot be known.
func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if runtime.GOOS == "linux" {
		require.NoError(t, err)
	}
	return len(entries)
}

func TestEngine_KeepsServingWhileConnectionsComeAndGo(t *testing.T) {
	onEngines(t, func(t *testing.T, door *websocket.Transport) {
		a, target := setup(t, door, nil)
		a.Receive = func(s *transporttest.Session, frame []byte) error {
			return s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, frame))
		}
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				for j := range 20 {
					p, err := dialPeer(t.Context(), target, nil)
					if err != nil {
						t.Error(err)
						return
					}
					a.Next(t) // not this one's, perhaps
					want := fmt.Sprintf("%d of %d", j, i)
					_ = p.Send([]byte(want))
					if got, err := p.Next(); err != nil || string(got[0]) != want {
						t.Errorf("got %q and %v, want %q", got, err, want)
					}
					_ = p.Drop()
				}
			})
		}
		all.Wait()
	})
}
