package websocket

import (
	"bufio"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// maxHeld bounds the control frames that wait for the rest of a data frame. Above it the earlier ones are forgotten:
// a peer must only see its latest ping answered (RFC 6455 5.5.3).
const maxHeld = 1024

// maxPiece is how much is written with one timeout.
const maxPiece = 16 << 10

// aheadBuffers has *[]byte for what is read before the library asks.
var aheadBuffers = sync.Pool{New: func() any {
	b := make([]byte, 4<<10)
	return &b
}}

// wire is the hijacked connection, seen by the library through Read, Write and Close, and by [conn] through send and
// TryWrite. It keeps frames whole: a control frame of the library never cuts into a data frame that is partly written,
// and nothing follows a close frame.
type wire struct {
	net.Conn
	timeout    time.Duration
	compressed bool // the library then writes data too, in pieces, and takes care of whole frames itself

	// Owned by whoever reads.
	early    []byte          // what was read before the library asks: by the server, or by await
	lent     *[]byte         // holds early, if it is the pool's
	raw      syscall.RawConn // nil unless readers can wait for a plain socket
	buffered *bufio.Reader   // the library's
	over     bool            // the last await has found an end instead of bytes

	ended atomic.Bool // a read has failed

	mu     sync.Mutex // serialises writes, held for at most timeout; guards below
	rest   []byte     // what is missing of the frames that are being written, or that TryWrite had to cut; shared, read-only
	held   []byte     // control frames that wait for rest
	sealed bool       // a close frame was written
	broken error      // why nothing can be written any more
}

// Read implements [net.Conn]. It never returns bytes together with an error, so that ended means that the library asked
// for more than there was.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.early) > 0 {
		n := copy(p, w.early)
		if w.early = w.early[n:]; len(w.early) == 0 {
			w.giveBack()
		}
		return n, nil
	}
	n, err := w.Conn.Read(p)
	if n > 0 {
		return n, nil
	}
	if err != nil {
		w.ended.Store(true)
	}
	return 0, err
}

func (w *wire) giveBack() {
	w.early = nil
	if w.lent != nil {
		aheadBuffers.Put(w.lent)
		w.lent = nil
	}
}

// Write is called by the library: with one whole control frame each time, unless the connection is compressed.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.compressed:
		return len(p), w.transmit(p)
	case w.sealed:
		return 0, net.ErrClosed
	case p[0] == finClose:
		return len(p), w.seal(p)
	case len(w.rest) > 0:
		// Waiting here would stop the reader until the peer takes its data.
		if len(w.held)+len(p) > maxHeld {
			w.held = w.held[:0]
		}
		w.held = append(w.held, p...)
		return len(p), nil
	}
	return len(p), w.transmit(p)
}

// seal writes a close frame as the last one. If the peer does not take the rest of a cut frame in time, the close frame
// stays away too. The caller holds mu.
func (w *wire) seal(frame []byte) error {
	w.sealed = true
	last := slices.Concat(w.rest, frame)
	w.rest, w.held = nil, nil
	return w.transmit(last)
}

// send writes whole frames, or the rest of one and whole frames after it. It writes in pieces, each with the timeout: a
// peer that is slow but alive gets a large frame whole. Between pieces the library may write, and finds that it must wait.
func (w *wire) send(frames []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.rest = frames; len(w.rest) > 0 && !w.sealed; {
		piece := w.rest[:min(len(w.rest), maxPiece)]
		if err := w.transmit(piece); err != nil {
			return err
		}
		w.rest = w.rest[len(piece):]
		w.mu.Unlock()
		w.mu.Lock()
	}
	if w.sealed {
		return net.ErrClosed
	}
	w.rest = nil
	if held := w.held; held != nil {
		w.held = nil
		return w.transmit(held)
	}
	return nil
}

// transmit writes p within the timeout. After an error nothing else is written: the peer may have got half a frame. The
// caller holds mu.
func (w *wire) transmit(p []byte) error {
	if w.broken != nil {
		return w.broken
	}
	err := w.Conn.SetWriteDeadline(time.Now().Add(w.timeout))
	if err == nil {
		_, err = w.Conn.Write(p)
	}
	if err != nil {
		w.broken = err
		return err
	}
	// A deadline that has passed would fail TryWrite.
	_ = w.Conn.SetWriteDeadline(time.Time{})
	return nil
}

// drop closes the connection without a word and without waiting: closing a [tls.Conn] may wait until its peer takes the
// last record.
func (w *wire) drop() {
	if t, ok := w.Conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
		return
	}
	_ = w.Conn.Close()
}
