// Command chat is an ordinary web app, with a login, rooms, forms and a store of its own, to which fanfare adds what is
// live: new messages, who is here, who comes and goes. Run it and open two browsers:
//
//	go run ./examples/chat
//
// What fanfare is told stands in realtime.go, and what the page does with it in static/realtime.js and static/chat.js;
// all else is as it would be without. The page has no SDK, only the browser's own EventSource.
//
// Each page holds a stream, and over HTTP/1.1 browsers have six connections to a server: an app whose users open many tabs
// serves HTTP/2, by TLS or behind a proxy that does.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	data := flag.String("data", defaultData(), "file that keeps rooms and messages; the key of the sessions lies beside it")
	syncEvery := flag.Duration("sync", 0, "longest time that a message may be in memory only; 0 syncs every message")
	flag.Parse()

	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *data, *syncEvery, logger); err != nil {
		logger.Error("chat stopped", "err", err)
		os.Exit(1)
	}
}

func defaultData() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = "."
	}
	return filepath.Join(dir, "fanfare-chat", "chat.db.jsonl")
}

// run serves until ctx ends, and then shuts down in order.
func run(ctx context.Context, addr, data string, syncEvery time.Duration, logger *slog.Logger) (err error) {
	// Before the store: a second chat on the same address fails here, and never touches the file of the first.
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	a, err := newApp(data, syncEvery, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.store.close()) }()

	srv := &http.Server{
		Handler: a.handler(),
		// No ReadTimeout and no WriteTimeout: they would cut live streams. The app's own pages have deadlines in
		// withDeadline, and the node guards its connections by pings and write timeouts of its own.
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	var serveErr error
	served := make(chan struct{})
	// Owned by run: Shutdown below ends it, and run waits for it.
	go func() {
		defer close(served)
		serveErr = srv.Serve(l)
	}()
	logger.Info("chat is open", "url", browserURL(l.Addr()), "data", data)

	select {
	case <-served:
	case <-ctx.Done():
		logger.Info("chat is closing")
	}
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	// The node first: it tells every stream to come back later, and waits for them. http.Server waits for requests to
	// end, which streams do not do by themselves.
	if nerr := a.node.Shutdown(sctx); nerr != nil {
		err = errors.Join(err, fmt.Errorf("shut down node: %w", nerr))
	}
	if serr := srv.Shutdown(sctx); serr != nil {
		err = errors.Join(err, fmt.Errorf("shut down server: %w", serr))
	}
	<-served
	if !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// browserURL is what to open: a listener on all addresses is best found on this machine.
func browserURL(addr net.Addr) string {
	t := addr.(*net.TCPAddr)
	host := t.IP.String()
	if t.IP.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(cmp.Or(host, "localhost"), fmt.Sprint(t.Port))
}
