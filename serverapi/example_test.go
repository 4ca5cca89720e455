package serverapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/serverapi"
)

// An app that is not Go publishes to a node, by the request that curl or any API client makes.
func Example() {
	node, err := fanfare.New(fanfare.Config{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = node.Shutdown(context.Background()) }()
	node.Channel("news", fanfare.ChannelOptions{Public: true})

	api, err := serverapi.New(node, serverapi.Config{Keys: []string{"the key"}})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/realtime/", node) // for browsers
	mux.Handle("/api", api)        // for the app
	mux.Handle("/api/", api)

	r := httptest.NewRequest(http.MethodPost, "/api/batch", strings.NewReader(
		`{"commands":[{"publish":{"channel":"news","data":{"text":"hi"}}},{"publish":{"channel":"olds","data":{}}}]}`))
	r.Header.Set("X-API-Key", "the key")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	answer, _ := io.ReadAll(w.Body)
	fmt.Println(w.Code, string(answer))
	// Output: 200 {"replies":[{"publish":{}},{"error":{"code":102,"message":"unknown channel"}}]}
}
