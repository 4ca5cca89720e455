package fanfare

import (
	"os"
	"time"
)

// parker lets a goroutine that has much to do step aside, so that the scheduler runs what else is runnable and, above all,
// asks the network: the app's own requests arrive there. runtime.Gosched does not ask the network while anything is
// runnable, and time.Sleep takes a millisecond on Linux, however short the time. So the goroutine waits for a byte in a pipe,
// which comes when the network is asked next.
//
// It belongs to one goroutine. The zero value is ready for use; it holds two files and a goroutine from the first park on.
type parker struct {
	reader, writer *os.File
	ring           chan struct{} // asks the other goroutine for a byte
	rung           chan struct{} // closed when that goroutine has ended
	broken         bool
	byte           [1]byte
}

// park steps aside.
func (p *parker) park() {
	if p.ring == nil && !p.broken {
		p.open()
	}
	if !p.broken {
		p.ring <- struct{}{}
		_, err := p.reader.Read(p.byte[:])
		p.broken = err != nil
	}
	if p.broken {
		time.Sleep(time.Microsecond)
	}
}

func (p *parker) open() {
	var err error
	if p.reader, p.writer, err = os.Pipe(); err != nil {
		p.broken = true // out of files; a sleep will do
		return
	}
	p.ring, p.rung = make(chan struct{}), make(chan struct{})
	// Owned by the parker; it ends when close closes ring. Only when park's read waits does this goroutine run.
	go func(ring <-chan struct{}, rung chan<- struct{}, writer *os.File) {
		defer close(rung)
		for range ring {
			_, _ = writer.Write([]byte{0}) // an error shows at the reader when close follows
		}
	}(p.ring, p.rung, p.writer)
}

// close ends the parker.
func (p *parker) close() {
	if p.ring == nil {
		return
	}
	close(p.ring)
	<-p.rung
	_ = p.writer.Close()
	_ = p.reader.Close()
}
