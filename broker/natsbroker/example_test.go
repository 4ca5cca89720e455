package natsbroker_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/natsbroker"
)

// Two nodes, which may as well be on two machines, share their channels.
func ExampleNew() {
	url, stop := startNATS()
	defer stop()
	ctx := context.Background()

	node := func() (*fanfare.Node, func()) {
		broker, err := natsbroker.New(ctx, natsbroker.Config{URL: url})
		if err != nil {
			log.Fatal(err)
		}
		n, err := fanfare.New(fanfare.Config{Broker: broker})
		if err != nil {
			log.Fatal(err)
		}
		n.Channel("news", fanfare.ChannelOptions{History: fanfare.History{Size: 100, TTL: time.Hour}})
		return n, func() {
			_ = n.Shutdown(ctx)
			_ = broker.Close()
		}
	}
	one, stopOne := node()
	defer stopOne()
	two, stopTwo := node()
	defer stopTwo()

	if _, err := one.Publish(ctx, "news", []byte(`{"text":"hello"}`)); err != nil {
		log.Fatal(err)
	}
	history, err := two.History(ctx, "news", fanfare.HistoryQuery{Limit: -1})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range history.Publications {
		fmt.Println(p.Offset, string(p.Data))
	}
	// Output:
	// 1 {"text":"hello"}
}

// startNATS starts a server in this process; yours runs by itself.
func startNATS() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "nats")
	if err != nil {
		log.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		log.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		log.Fatal("NATS does not start")
	}
	return s.ClientURL(), func() {
		s.Shutdown()
		s.WaitForShutdown()
		_ = os.RemoveAll(dir)
	}
}
