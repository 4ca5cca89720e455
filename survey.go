package fanfare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// surveyWindow is how long a survey waits for nodes that this one has never heard of, where the broker does not say which
	// there are.
	surveyWindow = 250 * time.Millisecond
	// maxAnswering bounds the surveys of other nodes that are answered at once, and maxUnanswered those that wait for that.
	maxAnswering, maxUnanswered = 4, 256
	// maxGone is how many nodes that have left are remembered.
	maxGone = 256
)

// Operations of a [controlMessage] that are about surveys.
const (
	opSurvey   = "survey"   // a question to all nodes
	opSurveyed = "surveyed" // the answer to the one that asked
	opGone     = "gone"     // a node that others have heard of is shutting down
)

// SurveyError tells of nodes whose answers are missing from what [Node.Info] or [Node.Channels] returned with it.
type SurveyError struct {
	// Missing are the ids of nodes that did not answer in time. With a broker that is a [NodeLister] they are those that it listed.
	// With others they are those that were heard of before, and they are not waited for again until they are heard of again.
	Missing []string
	// Partial are the ids of nodes that have more to tell than fits.
	Partial []string
	// Err is why the wait ended early, [context.DeadlineExceeded] for instance, or nil.
	Err error
}

// Error names the nodes.
func (e *SurveyError) Error() string {
	var b strings.Builder
	b.WriteString("fanfare: survey of the nodes")
	if len(e.Missing) > 0 {
		fmt.Fprintf(&b, ": no answer from %s", strings.Join(e.Missing, ", "))
	}
	if len(e.Partial) > 0 {
		fmt.Fprintf(&b, ": not all from %s", strings.Join(e.Partial, ", "))
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *SurveyError) Unwrap() error { return e.Err }

// surveyMessage is a question to other nodes, or an answer.
type surveyMessage struct {
	ID   string `json:"id,omitempty"` // of the survey
	From string `json:"from"`         // the node that sent it

	Ask     string `json:"ask,omitempty"` // askInfo or askChannels
	Pattern string `json:"pattern,omitempty"`

	Info     *NodeInfo         `json:"info,omitempty"`
	Channels []surveyedChannel `json:"channels,omitempty"`
	More     bool              `json:"more,omitempty"` // there are more than that
}

const (
	askInfo     = "info"
	askChannels = "channels"
)

type surveyedChannel struct {
	Name    []byte `json:"name"` // bytes, because names from Go need not be UTF-8
	Clients int    `json:"clients"`
}

// surveys are the questions under way, and the nodes that were heard of.
type surveys struct {
	crew crew // answers other nodes

	mu      sync.Mutex // guards below
	peers   map[string]bool
	gone    []string // the last that have left, which the broker may list for a moment more; the newest last
	running map[string]*survey
	known   bool // other nodes have heard of this one
}

// survey is a question under way. surveys.mu guards it.
type survey struct {
	listed  map[string]bool           // nodes that are to answer; nil if the broker does not say, and all are that were heard of
	answers map[string]*surveyMessage // by node
	changed chan struct{}             // of one slot
}

// ask asks all other nodes, and returns what they answer, by their ids. An error is a [SurveyError] if there are answers.
func (v *surveys) ask(ctx context.Context, n *Node, q surveyMessage) (map[string]*surveyMessage, error) {
	_, ok := n.broker.(ControlBus)
	switch {
	case n.ctx.Err() != nil:
		return nil, ErrClosed
	case !ok || n.ownsBroker:
		return nil, ctx.Err()
	}
	q.ID, q.From = newID(), n.id
	ctx, cancel := context.WithTimeout(ctx, n.config.HookTimeout)
	defer cancel()
	listed, err := n.otherNodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("fanfare: survey of the nodes: %w", err)
	}
	s := v.begin(q.ID, listed)
	defer v.end(q.ID)
	if err := n.send(ctx, "", &controlMessage{Op: opSurvey, Survey: &q}); err != nil {
		return nil, fmt.Errorf("fanfare: survey of the nodes: %w", err)
	}
	err = v.await(ctx, n, s)
	v.mu.Lock()
	defer v.mu.Unlock()
	answers := maps.Clone(s.answers)
	missing := v.missing(s)
	for _, id := range missing {
		delete(v.peers, id)
	}
	if err != nil {
		err = &SurveyError{Missing: missing, Err: err}
	}
	return answers, err
}

// otherNodes returns those that the broker lists, or nil if it does not.
func (n *Node) otherNodes(ctx context.Context) (map[string]bool, error) {
	lister, ok := n.broker.(NodeLister)
	if !ok {
		return nil, nil
	}
	ids, err := lister.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	nodes := make(map[string]bool, len(ids))
	for _, id := range ids {
		if id != n.id {
			nodes[id] = true
		}
	}
	return nodes, nil
}

// await waits until everybody has answered who is known; and long enough for others, if there may be any.
func (v *surveys) await(ctx context.Context, n *Node, s *survey) error {
	window := time.NewTimer(surveyWindow)
	defer window.Stop()
	if s.listed != nil {
		s.wake() // there may be nobody
	}
	for open := s.listed == nil; ; {
		select {
		case <-s.changed:
		case <-window.C:
			open = false
		case <-ctx.Done():
			return ctx.Err()
		case <-n.ctx.Done():
			return ErrClosed
		}
		v.mu.Lock()
		complete := len(v.missing(s)) == 0
		v.mu.Unlock()
		if !open && complete {
			return nil
		}
	}
}

func (v *surveys) begin(id string, listed map[string]bool) *survey {
	s := &survey{listed: listed, answers: make(map[string]*surveyMessage), changed: make(chan struct{}, 1)}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.running == nil {
		v.running = make(map[string]*survey)
	}
	v.running[id] = s
	v.known = true
	for _, id := range v.gone {
		delete(s.listed, id)
	}
	return s
}

func (v *surveys) end(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.running, id)
}

// missing returns the nodes that are known and have not answered, sorted. The lock is held.
func (v *surveys) missing(s *survey) (ids []string) {
	known := s.listed
	if known == nil {
		known = v.peers
	}
	for id := range known {
		if s.answers[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// control takes what another node sent. It does not block.
func (v *surveys) control(n *Node, m *controlMessage) {
	q := m.Survey
	if q == nil || !isID(q.From) || q.From == n.id {
		n.log.Error("control message not understood", slog.String("op", m.Op))
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.peers == nil {
		v.peers = make(map[string]bool)
	}
	v.peers[q.From] = true
	switch m.Op {
	case opGone:
		delete(v.peers, q.From)
		if v.gone = append(v.gone, q.From); len(v.gone) > maxGone {
			v.gone = v.gone[1:]
		}
		for _, s := range v.running {
			delete(s.listed, q.From)
			s.wake()
		}
	case opSurveyed:
		if s := v.running[q.ID]; s != nil {
			s.answers[q.From] = q
			s.wake()
		}
	case opSurvey:
		v.known = true
		v.enqueue(n, q)
	}
}

func (s *survey) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// enqueue sees to it that a survey is answered: who asks takes a node that does not answer for a dead one.
func (v *surveys) enqueue(n *Node, q *surveyMessage) {
	room := v.crew.add(func() {
		if !n.answer(q) {
			// By the time that the broker works again the others have given up; and Shutdown waits for this.
			v.crew.drop()
		}
	})
	if !room {
		n.log.Warn("too many surveys of the nodes; one is not answered", slog.String("from", q.From))
	}
}

// answer answers one survey, and reports whether that could be sent.
func (n *Node) answer(q *surveyMessage) bool {
	err := n.send(n.ctx, q.From, &controlMessage{Op: opSurveyed, Survey: n.surveyed(q)})
	if err != nil {
		n.log.Log(n.ctx, troubled(err, slog.LevelWarn), "survey not answered", slog.String("from", q.From), slog.Any("err", err))
	}
	return err == nil
}

// surveyed is this node's answer.
func (n *Node) surveyed(q *surveyMessage) *surveyMessage {
	a := &surveyMessage{ID: q.ID, From: n.id}
	switch q.Ask {
	case askInfo:
		info := n.info()
		a.Info = &info
	case askChannels:
		a.Channels, a.More = n.watchedChannels(q.Pattern)
	}
	return a
}

// leave tells the others that they need not wait for this node, if they have heard of it.
func (v *surveys) leave(ctx context.Context, n *Node) {
	v.mu.Lock()
	known := v.known
	v.mu.Unlock()
	if !known || n.ownsBroker {
		return
	}
	if err := n.tellOthers(ctx, controlMessage{Op: opGone, Survey: &surveyMessage{From: n.id}}); err != nil {
		n.log.Debug("end not told to other nodes", slog.Any("err", err))
	}
}

// partial adds to the error of a survey that some nodes had more to tell.
func partial(err error, ids []string) error {
	if len(ids) == 0 {
		return err
	}
	slices.SortFunc(ids, cmp.Compare[string])
	e, ok := errors.AsType[*SurveyError](err)
	if !ok {
		e = &SurveyError{}
	}
	e.Partial = ids
	return e
}
