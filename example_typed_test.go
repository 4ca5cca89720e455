package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/fanfare-go/fanfare"
)

func ExampleTyped() {
	type Message struct {
		From string `json:"from"`
		Text string `json:"text"`
	}
	node, err := fanfare.New(fanfare.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = node.Shutdown(context.Background()) }()
	node.Channel("room:{id}", fanfare.ChannelOptions{Public: true, History: fanfare.History{Size: 100, TTL: time.Hour}})
	rooms := fanfare.Typed[Message](node, "room:{id}")

	ctx := context.Background()
	if _, err := rooms.Publish(ctx, "room:42", Message{"ann", "Hello!"}); err != nil {
		log.Fatal(err)
	}
	if _, err := node.Publish(ctx, "room:42", []byte(`"from before there were types"`)); err != nil {
		log.Fatal(err)
	}
	for p, err := range rooms.Publications(ctx, "room:42", fanfare.Position{}) {
		if bad, ok := errors.AsType[*fanfare.DecodeError](err); ok {
			fmt.Println("skipped", bad.Channel, bad.Position.Offset)
			continue
		} else if err != nil {
			log.Fatal(err)
		}
		fmt.Println(p.Offset, p.Value.From, p.Value.Text)
	}
	// Output:
	// 1 ann Hello!
	// skipped room:42 2
}
