// Package target is what the programs that loadgen measures have in common: the endpoints by which loadgen controls
// them, and how they start and stop.
package target

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// stopTimeout bounds an orderly stop; a node drains its connections for 5 s at most.
const stopTimeout = 10 * time.Second

// Serve serves h on l until ctx ends. Then it calls stop, which ends what h has begun, and only then waits for requests
// under way: a server does not know hijacked connections.
func Serve(ctx context.Context, l net.Listener, h http.Handler, stop func(context.Context) error) error {
	srv := &http.Server{
		Handler: h,
		// No ReadTimeout and no WriteTimeout: a paced publish is one long request.
		ReadHeaderTimeout: 5 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	var serveErr error
	served := make(chan struct{})
	// Owned by this function: Shutdown or a broken listener ends it, and it is waited for.
	go func() {
		defer close(served)
		serveErr = srv.Serve(l)
	}()
	select {
	case <-served:
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := errors.Join(stop(stopCtx), srv.Shutdown(stopCtx))
	<-served
	if errors.Is(serveErr, http.ErrServerClosed) {
		return err
	}
	return errors.Join(serveErr, err)
}
