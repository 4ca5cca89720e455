package fanfare

import (
	"context"
	"slices"
	"sync"
)

var _ ConnectionCounter = (*MemoryBroker)(nil)

// memoryConnections counts connections, for [MemoryBroker].
type memoryConnections struct {
	mu    sync.Mutex // a leaf; guards below
	nodes map[string]bool
	users map[string][]UserConnection // the first that was counted comes first; none is empty
}

// AddConnection implements [ConnectionCounter].
func (b *MemoryBroker) AddConnection(ctx context.Context, c UserConnection, limit int, replace bool) (Admission, error) {
	if err := ctx.Err(); err != nil {
		return Admission{}, err
	}
	m := &b.connections
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.nodes[c.Node] {
		return Admission{}, ErrClosed
	}
	counted := m.users[c.User]
	var a Admission
	switch {
	case slices.Contains(counted, c):
		return Admission{Admitted: true}, nil
	case len(counted) < limit:
	case !replace || len(counted) == 0:
		return Admission{}, nil
	default:
		a.Replaced = counted[0]
		counted = slices.Delete(counted, 0, 1)
	}
	a.Admitted = true
	if m.users == nil {
		m.users = make(map[string][]UserConnection)
	}
	m.users[c.User] = append(counted, c)
	return a, nil
}

// RemoveConnection implements [ConnectionCounter].
func (b *MemoryBroker) RemoveConnection(ctx context.Context, c UserConnection) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m := &b.connections
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.nodes[c.Node] {
		return ErrClosed
	}
	m.retain(c.User, func(other UserConnection) bool { return other != c })
	return nil
}

// attach makes a node known.
func (m *memoryConnections) attach(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes == nil {
		m.nodes = make(map[string]bool)
	}
	m.nodes[node] = true
}

// detach forgets a node, and the connections that it holds. It looks at every connection there is.
func (m *memoryConnections) detach(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, node)
	for user := range m.users {
		m.retain(user, func(c UserConnection) bool { return c.Node != node })
	}
}

// retain forgets the connections of a user that are not to be kept. The lock is held.
func (m *memoryConnections) retain(user string, keep func(UserConnection) bool) {
	left := slices.DeleteFunc(m.users[user], func(c UserConnection) bool { return !keep(c) })
	if len(left) == 0 {
		delete(m.users, user)
		return
	}
	m.users[user] = left
}
