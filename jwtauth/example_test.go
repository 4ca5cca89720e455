package jwtauth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/jwtauth"
)

// mount makes an app live by tokens. Its own login decides who gets one, and what it says.
func mount(secret []byte) (*fanfare.Node, http.Handler, error) {
	v, err := jwtauth.New(jwtauth.Config{HMACSecret: secret})
	if err != nil {
		return nil, nil, err
	}
	node, err := fanfare.New(fanfare.Config{Authenticate: v.Authenticate, Refresh: v.Refresh})
	if err != nil {
		return nil, nil, err
	}
	node.Channel("user:{id}", fanfare.ChannelOptions{}) // only by the connection token
	node.Channel("room:{id}", fanfare.ChannelOptions{Subscribe: v.Subscribe, SubRefresh: v.SubRefresh})

	signer := &jwtauth.Signer{Key: secret, TTL: 10 * time.Minute}
	answer := func(w http.ResponseWriter, token string, err error) {
		if err != nil {
			http.Error(w, "no token could be made", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, token)
	}
	mux := http.NewServeMux()
	mux.Handle("/realtime/", node)
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		user := loggedIn(r)
		if user == "" {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		token, err := signer.ConnectionToken(jwtauth.ConnectionClaims{
			User: user, Info: map[string]string{"name": user}, Channels: []string{"user:" + user},
		})
		answer(w, token, err)
	})
	mux.HandleFunc("POST /token/subscription", func(w http.ResponseWriter, r *http.Request) {
		user, channel := loggedIn(r), r.FormValue("channel")
		if !mayWatch(user, channel) {
			http.Error(w, "not for you", http.StatusForbidden)
			return
		}
		token, err := signer.SubscriptionToken(jwtauth.SubscriptionClaims{User: user, Channel: channel})
		answer(w, token, err)
	})
	return node, mux, nil
}

// loggedIn stands for the app's session, mayWatch for its own rules.
func loggedIn(r *http.Request) string           { user, _, _ := r.BasicAuth(); return user }
func mayWatch(user string, channel string) bool { return user == "ann" && channel == "room:7" }

// An app makes tokens for its pages, and its node believes them.
func Example() {
	node, handler, err := mount([]byte("32 random bytes, from your configuration"))
	if err != nil {
		panic(err)
	}
	defer node.Shutdown(context.Background())
	server := httptest.NewServer(handler)
	defer server.Close()

	page := open(server)
	defer page.conn.CloseNow()
	page.say(map[string]any{"id": 1, "connect": map[string]any{"token": ask(server, "/token")}})
	page.say(map[string]any{"id": 2, "subscribe": map[string]any{"channel": "room:7", "token": ask(server, "/token/subscription?channel=room:7")}})
	page.say(map[string]any{"id": 3, "subscribe": map[string]any{"channel": "room:8", "token": ask(server, "/token/subscription?channel=room:8")}})

	// Output:
	// connected; expires true in 600 s; watches user:ann
	// subscribed; expires true in 600 s
	// refused: 103 permission denied
}

// ask gets a token as a page does. What it is told instead is no token, and the node says so.
func ask(server *httptest.Server, path string) string {
	r, _ := http.NewRequest(http.MethodPost, server.URL+path, nil)
	r.SetBasicAuth("ann", "")
	resp, err := server.Client().Do(r)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// livePage is the WebSocket of a page.
type livePage struct{ conn *websocket.Conn }

func open(server *httptest.Server) livePage {
	conn, _, err := websocket.Dial(context.Background(), strings.Replace(server.URL, "http", "ws", 1)+"/realtime/websocket", nil)
	if err != nil {
		panic(err)
	}
	return livePage{conn}
}

// say sends a command and prints what comes of it.
func (p livePage) say(command any) {
	text, _ := json.Marshal(command)
	_ = p.conn.Write(context.Background(), websocket.MessageText, text)
	_, text, err := p.conn.Read(context.Background())
	if err != nil {
		panic(err)
	}
	type result struct {
		Expires bool
		TTL     int
		Subs    map[string]any
	}
	var reply struct {
		Connect, Subscribe *result
		Error              *fanfare.Error
	}
	_ = json.Unmarshal(text, &reply)
	switch {
	case reply.Error != nil:
		fmt.Println("refused:", reply.Error.Code, reply.Error.Message)
	case reply.Connect != nil:
		fmt.Printf("connected; expires %t in %d s; watches", reply.Connect.Expires, approximately(reply.Connect.TTL))
		for channel := range reply.Connect.Subs {
			fmt.Printf(" %s\n", channel)
		}
	default:
		fmt.Printf("subscribed; expires %t in %d s\n", reply.Subscribe.Expires, approximately(reply.Subscribe.TTL))
	}
}

// approximately rounds up to minutes: the times in tokens are whole seconds, and time passes.
func approximately(seconds int) int { return (seconds + 59) / 60 * 60 }
