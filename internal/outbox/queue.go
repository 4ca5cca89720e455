// Package outbox holds the frames that are queued for one connection.
//
// Frames are shared between connections: the queue keeps references to them and never changes one. It counts bytes, so
// that its owner can bound them, and takes back what was queued for one channel, so that the owner can apply the
// channel's policy for slow readers.
package outbox

// minCap is the smallest capacity of a ring, in items. Capacities are powers of two, so that an index wraps by a mask.
const minCap = 2

type item[K comparable] struct {
	frame []byte
	key   K
}

// Queue is a first-in, first-out queue of frames, each with the key of the subscription it belongs to. The zero K marks
// frames of no subscription: replies and pings, which are never dropped. The zero Queue is ready to use. A Queue is not
// safe for concurrent use.
type Queue[K comparable] struct {
	ring *ring[K] // nil while the queue is empty: connections are idle most of the time, and there are many of them
}

// ring holds the items of a queue that is not empty.
type ring[K comparable] struct {
	items []item[K]
	head  int // index of the oldest item
	count int
	bytes int
	first [minCap]item[K] // items at the beginning, so that a short queue is a single object
}

// Push appends a frame. The frame must not be changed afterwards.
func (q *Queue[K]) Push(frame []byte, key K) {
	r := q.ring
	if r == nil {
		r = &ring[K]{}
		r.items = r.first[:]
		q.ring = r
	}
	if r.count == len(r.items) {
		r.grow()
	}
	*r.at(r.count) = item[K]{frame, key}
	r.count++
	r.bytes += len(frame)
}

// Len is the number of queued frames. It does not count what [Queue.Take] has taken.
func (q *Queue[K]) Len() int {
	if q.ring == nil {
		return 0
	}
	return q.ring.count
}

// Bytes is the length of all queued frames. It does not count what [Queue.Take] has taken.
func (q *Queue[K]) Bytes() int {
	if q.ring == nil {
		return 0
	}
	return q.ring.bytes
}

// DropOldest removes the oldest frames of key until at least want bytes are freed or none of them is left, and returns
// how many frames and bytes that were. With the zero key it drops nothing. It takes time in proportion to the place of
// the last frame that it removes, not to the length of the queue.
func (q *Queue[K]) DropOldest(key K, want int) (dropped, bytes int) {
	if want <= 0 {
		return 0, 0
	}
	return q.drop(key, want)
}

// DropAll removes all frames of key, and returns how many frames and bytes that were. With the zero key it drops
// nothing.
func (q *Queue[K]) DropAll(key K) (dropped, bytes int) {
	// More than is queued can never be freed, so this does not stop at frames of length zero either.
	return q.drop(key, q.Bytes()+1)
}

func (q *Queue[K]) drop(key K, want int) (dropped, bytes int) {
	var none K
	r := q.ring
	if key == none || r == nil {
		return 0, 0
	}
	end := 0 // the items before it have been looked at
	for end < r.count && bytes < want {
		it := r.at(end)
		end++
		if it.key == key {
			dropped++
			bytes += len(it.frame)
		}
	}
	if dropped == 0 {
		return 0, 0
	}
	// Moving the items in front towards the gap, instead of those behind it, is what keeps a drop near the head cheap.
	to := end
	for from := end - 1; from >= 0; from-- {
		if it := *r.at(from); it.key != key {
			to--
			*r.at(to) = it
		}
	}
	q.discard(dropped, bytes)
	return dropped, bytes
}

// Take removes frames from the head and returns them joined, with their number: as many as fit into max bytes, but at
// least one if there is one. A single frame is returned as it is, without copying, and must not be changed. Several are
// appended to buf[:0], so out then holds the memory to pass in the next time.
func (q *Queue[K]) Take(buf []byte, max int) (out []byte, n int) {
	r := q.ring
	if r == nil {
		return nil, 0
	}
	out = r.at(0).frame
	size := len(out)
	for n = 1; n < r.count; n++ {
		next := len(r.at(n).frame)
		if size+next > max {
			break
		}
		size += next
	}
	if n > 1 {
		out = buf[:0]
		for i := range n {
			out = append(out, r.at(i).frame...)
		}
	}
	q.discard(n, size)
	return out, n
}

// Reset drops everything and releases the memory.
func (q *Queue[K]) Reset() { *q = Queue[K]{} }

// discard forgets the n oldest items, which are of the given length together.
func (q *Queue[K]) discard(n, bytes int) {
	r := q.ring
	r.count -= n
	r.bytes -= bytes
	if r.count == 0 {
		q.Reset()
		return
	}
	for range n {
		r.items[r.head] = item[K]{} // lets the frame be collected
		r.head = (r.head + 1) & (len(r.items) - 1)
	}
}

func (r *ring[K]) grow() {
	items := make([]item[K], 2*len(r.items))
	n := copy(items, r.items[r.head:])
	copy(items[n:], r.items[:r.head])
	r.items, r.head = items, 0
	clear(r.first[:])
}

// at returns the place of the i-th oldest item; i may be count when the ring is not full.
func (r *ring[K]) at(i int) *item[K] { return &r.items[(r.head+i)&(len(r.items)-1)] }
