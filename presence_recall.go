package fanfare

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Operations of a [controlMessage] about users whose leaves are held back.
const (
	opReturned = "returned" // the user has come to the node that tells this: hold back nothing
	opRecalled = "recalled" // the answer
)

const (
	// recallWindow is how long a join waits for the leave of a client that the user had at another node.
	recallWindow = 500 * time.Millisecond
	// maxRecalls bounds the joins that wait. More are told at once, and a leave may follow.
	maxRecalls = 10_000
	// recallPause is how long no join of a user waits after one has waited in vain: the user's clients were of a node that has
	// died, for instance, and everybody who comes would wait for the one before.
	recallPause = 10 * time.Second
	// maxRecalling and maxRecallsHeld bound the recalls of other nodes that are worked off at once, and those that wait for that.
	maxRecalling, maxRecallsHeld = 16, 10_000
)

// recallMessage is a question about one user in one channel, or an answer.
type recallMessage struct {
	ID      string `json:"id,omitempty"` // of the question; none if no answer is wanted
	From    string `json:"from"`         // the node that sent it
	Clients int    `json:"clients,omitempty"`
}

// recalls end departures: a user whose leave one node holds back may return at another. That one knows from the count of a
// [UserPresence] that the user has clients elsewhere, and asks who holds back their leaves. Where leaves and joins are told
// of each client, the join waits for the leave; that is over as soon as the answers account for all of the user's clients.
type recalls struct {
	crew crew // works off what others ask

	mu      sync.Mutex // guards below
	running map[string]*recall
}

type recall struct {
	accounted int           // clients, by the answers; recalls.mu guards it
	wanted    int           // constant
	done      chan struct{} // of one slot
}

// from tells the other nodes that a user has come, who has so many clients elsewhere. Then, which may be now or after their
// answers, it calls tell, and says whether it has waited in vain; with wait false it calls tell at once. It returns false if it does
// nothing.
func (v *recalls) from(n *Node, k presenceKey, elsewhere int, wait bool, tell func(inVain bool)) bool {
	if _, ok := n.broker.(ControlBus); !ok || n.ownsBroker {
		return false
	}
	q := &recallMessage{From: n.id}
	var r *recall
	if wait {
		q.ID = newID()
		if r = v.begin(q.ID, elsewhere); r == nil {
			return false
		}
	}
	// Owned by the node, and bounded in time.
	started := n.goroutines.start(func() {
		ctx, cancel := context.WithTimeout(n.ctx, recallWindow)
		defer cancel()
		if r == nil {
			tell(false)
		} else {
			defer func() { tell(ctx.Err() != nil) }()
			defer v.end(q.ID)
		}
		err := n.send(ctx, "", &controlMessage{Op: opReturned, User: []byte(k.user), Channel: []byte(k.channel), Recall: q})
		if err != nil {
			n.log.Log(ctx, troubled(err, slog.LevelWarn), "return of a user not told to other nodes", slog.String("channel", k.channel), slog.String("user", k.user), slog.Any("err", err))
			return
		}
		if r != nil {
			select {
			case <-r.done:
			case <-ctx.Done():
			}
		}
	})
	if !started && wait {
		v.end(q.ID)
	}
	return started
}

func (v *recalls) begin(id string, wanted int) *recall {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.running) >= maxRecalls {
		return nil
	}
	if v.running == nil {
		v.running = make(map[string]*recall)
	}
	r := &recall{wanted: wanted, done: make(chan struct{}, 1)}
	v.running[id] = r
	return r
}

func (v *recalls) end(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.running, id)
}

// control takes what another node sent. It does not block.
func (v *recalls) control(n *Node, m *controlMessage) {
	q := m.Recall
	if q == nil || !isID(q.From) || q.ID != "" && !isID(q.ID) {
		n.log.Error("control message not understood", slog.String("op", m.Op))
		return
	}
	if m.Op == opRecalled {
		v.answered(q)
		return
	}
	k := presenceKey{string(m.Channel), string(m.User)}
	clients, away := n.attendances.look(k)
	if clients == 0 || !away && q.ID == "" {
		return
	}
	v.crew.add(func() {
		if away {
			n.depart(k, nil)
		}
		if q.ID == "" {
			return
		}
		err := n.send(n.ctx, q.From, &controlMessage{Op: opRecalled, Recall: &recallMessage{ID: q.ID, From: n.id, Clients: clients}})
		if err != nil {
			n.log.Log(n.ctx, troubled(err, slog.LevelWarn), "return of a user not answered", slog.String("channel", k.channel), slog.Any("err", err))
		}
	})
}

func (v *recalls) answered(q *recallMessage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.running[q.ID]
	if r == nil {
		return
	}
	if r.accounted += max(q.Clients, 0); r.accounted >= r.wanted {
		select {
		case r.done <- struct{}{}:
		default:
		}
	}
}
