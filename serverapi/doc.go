// Package serverapi lets other programs use a node over HTTP: the app that is not Go publishes, reads history and presence, and
// disconnects users by POST requests with JSON. It is Centrifugo's HTTP server API, so its published API clients work
// unchanged: those for Go and Node are tested with it.
//
//	api, err := serverapi.New(node, serverapi.Config{Keys: []string{os.Getenv("API_KEY")}})
//	if err != nil { … }
//	mux.Handle("/api", api)
//	mux.Handle("/api/", api)
//
// and then, from anywhere:
//
//	curl -H "X-API-Key: $API_KEY" -d '{"channel":"news","data":{"text":"hi"}}' https://example.com/api/publish
//
// Whoever has a key may do everything with the node: serve it where only the app's own machines reach it, or behind TLS. It answers
// no CORS requests, so that pages of other origins cannot call it. docs/server-api.md shows every method.
//
// # Where it differs from Centrifugo
//
// Channels carry one kind of data, see [fanfare.Payload]. A field data is JSON for channels of JSON, and a JSON string with the text
// for channels of text; b64data is the bytes themselves, and must be of the channel's kind too. Publications of binary channels
// come out of history with b64data instead of data. A version needs a channel with history, and no skip_history: else it is refused
// with 107. Deltas are the channel's choice, so the field delta is ignored, as is info of refresh. A refresh that says neither expired
// nor expire_at is refused with 107. Methods and fields of Centrifugo PRO are unknown.
package serverapi
