package fanfare

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Shutdown ends the node: no connection is accepted any more, those that there are get 3001 "shutdown", spread over
// [Config.DrainWindow], with what is queued for them; leaves are published and presence is removed. It closes the broker
// and presence if it made them itself; those that it was given it only detaches from.
//
// It returns when everything the node started has ended, or with the context's error. Hooks that do not return are waited
// for at most [Config.HookTimeout], and named in the error. Called with the context of a hook it returns [ErrInHook],
// because it would wait for itself. A second call waits for the first one. Call it before [http.Server.Shutdown], which
// does not know hijacked connections.
func (n *Node) Shutdown(ctx context.Context) error {
	if n.hookClient(ctx) != nil {
		return ErrInHook
	}
	n.draining.Store(true)
	n.mu.Lock()
	if done := n.done; done != nil {
		n.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
		// The first call may have given up.
		return errors.Join(n.goroutines.wait(ctx), n.waitForHooks(ctx))
	}
	n.done = make(chan struct{})
	clients := slices.Collect(n.clients.all())
	n.mu.Unlock()

	if n.graves.stop != nil {
		n.graves.stop() // others are to be told of the dead from now on
	}
	n.returns.end()
	err := n.drain(ctx, clients)
	if err == nil {
		err = n.goroutines.wait(ctx)
	}
	// From here on whoever is late finds the context cancelled and the workers gone, and gives up.
	n.cancel()
	n.goroutines.dismiss()
	close(n.stop)
	for _, a := range n.agendas {
		a.stop()
	}
	err = errors.Join(err, n.waitForHooks(ctx))
	return errors.Join(err, n.detach(ctx))
}

func (n *Node) waitForHooks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.config.HookTimeout)
	defer cancel()
	return n.hooks.wait(ctx)
}

// drain closes the connections, evenly over the window.
func (n *Node) drain(ctx context.Context, clients []*Client) error {
	window := min(max(n.config.DrainWindow, 0), time.Duration(len(clients))*time.Millisecond)
	began := time.Now()
	for i, c := range clients {
		due := began.Add(window * time.Duration(i) / time.Duration(len(clients)))
		if wait := time.Until(due); wait > time.Millisecond {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop() // close the rest at once
			}
		}
		c.close(DisconnectShutdown)
	}
	return ctx.Err()
}

// detach lets go of broker and presence, and waits for the daemons.
func (n *Node) detach(ctx context.Context) error {
	for _, k := range n.attendances.keys() {
		n.depart(k, nil)
	}
	n.surveys.leave(ctx, n)
	err := n.link.Close()
	err = errors.Join(err, n.presence.RemoveNode(context.WithoutCancel(ctx), n.id))
	if n.ownsPresence {
		err = errors.Join(err, n.presence.Close())
	}
	if n.ownsBroker {
		err = errors.Join(err, n.broker.Close())
	}
	n.daemons.Wait()
	for _, w := range n.workers {
		w.abandon()
	}
	if o, ok := n.config.Observer.(NodeObserver); ok {
		o.Detach(n)
	}
	n.mu.Lock()
	close(n.done)
	n.mu.Unlock()
	return err
}
