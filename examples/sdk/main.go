// Command sdk is the server of a page that uses the published JavaScript SDK, bundled by Vite. It needs Node 18 or newer,
// once:
//
//	cd examples/sdk && npm install && npm run build
//	go run ./examples/sdk
//
// While working on the page, "npm run dev" beside it serves the page from its sources, and hands /realtime to this server.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
)

const (
	maxName = 24  // characters
	maxText = 500 // characters
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	dist := flag.String("dist", filepath.FromSlash("examples/sdk/dist"), "directory of the built page")
	flag.Parse()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *dist, logger); err != nil {
		logger.Error("sdk stopped", "err", err)
		os.Exit(1)
	}
}

// newNode declares the one room there is.
func newNode(logger *slog.Logger) (*fanfare.Node, error) {
	node, err := fanfare.New(fanfare.Config{Logger: logger, Authenticate: authenticate})
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	node.Channel("room", fanfare.ChannelOptions{
		Public:        true,
		AllowPublish:  fanfare.Subscribers,
		AllowHistory:  fanfare.Subscribers,
		AllowPresence: fanfare.Subscribers,
		Publish:       check,
		Presence:      true,
		JoinLeave:     true,
		History:       fanfare.History{Size: 100, TTL: time.Hour},
	})
	return node, nil
}

// authenticate believes the name that the page sends. An app with accounts asks its own session, in r.HTTP.
func authenticate(_ context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
	var who struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(r.Data, &who); err != nil {
		return fanfare.Identity{}, fanfare.ErrBadRequest
	}
	name := strings.TrimSpace(who.Name)
	if name == "" || utf8.RuneCountInString(name) > maxName {
		return fanfare.Identity{}, fanfare.DisconnectInvalidToken
	}
	return fanfare.Identity{User: name}, nil
}

// check decides about what a page publishes, and publishes what it has read and nothing else.
func check(_ context.Context, r *fanfare.PublishRequest) (fanfare.PublishReply, error) {
	var message struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(r.Data, &message); err != nil || message.Text == "" || utf8.RuneCountInString(message.Text) > maxText {
		return fanfare.PublishReply{}, fanfare.ErrBadRequest
	}
	data, err := json.Marshal(message)
	return fanfare.PublishReply{Data: data}, err
}

func handler(node *fanfare.Node, dist string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/realtime/", node)
	files := http.FileServer(http.Dir(dist))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(filepath.Join(dist, "index.html")); err != nil {
			http.Error(w, "The page is not built: cd examples/sdk && npm install && npm run build\n"+
				"Or, to work on it: npm run dev, and open the address that it prints.", http.StatusNotFound)
			return
		}
		files.ServeHTTP(w, r)
	})
	return mux
}

// run serves until ctx ends, and then shuts down in order.
func run(ctx context.Context, addr, dist string, logger *slog.Logger) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	node, err := newNode(logger)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	srv := &http.Server{Handler: handler(node, dist), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	var serveErr error
	served := make(chan struct{})
	// Owned by run: Shutdown below ends it, and run waits for it.
	go func() {
		defer close(served)
		serveErr = srv.Serve(l)
	}()
	logger.Info("sdk is open", "url", "http://"+l.Addr().String(), "page", dist)

	select {
	case <-served:
	case <-ctx.Done():
	}
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	// The node first: it tells every client to come back later. http.Server does not know connections that were taken over.
	err = node.Shutdown(sctx)
	err = errors.Join(err, srv.Shutdown(sctx))
	<-served
	if !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
