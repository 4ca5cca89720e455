// Package webhook lets an app that is no Go program decide about connections: each hook of a [fanfare.Node] becomes a POST
// to an endpoint of that app, with the browser's cookies. So the login of Django, Rails or PHP is the login here, and its code
// decides who may watch and publish what.
//
//	h, err := webhook.New(webhook.Config{
//		Connect:   "http://127.0.0.1:8000/live/connect",
//		Subscribe: "http://127.0.0.1:8000/live/subscribe",
//		Static:    http.Header{"X-Live-Secret": {secret}},
//		Logger:    logger,
//	})
//	…
//	defer h.Close()
//	node, err := fanfare.New(fanfare.Config{Authenticate: h.Authenticate})
//	…
//	node.Channel("room:{id}", fanfare.ChannelOptions{Subscribe: h.Subscribe})
//
// What is sent and answered is JSON in the documented format of Centrifugo's HTTP proxy: apps that have endpoints for that
// keep them. docs/webhooks.md describes it.
//
// # When the app is down, slow or wrong
//
// Connections that are there go on. Whatever asks the app meanwhile is refused with a temporary error, after [Config.Timeout]
// at the latest, and clients try again with back-off; a refresh that fails so does not end the connection before its expiry
// and [fanfare.Config.ExpiryGrace]. At most [Config.MaxConcurrent] calls run at once, and an endpoint that does not answer is
// left alone for a while (see [Breaker]). An answer that makes no sense never lets anybody in. Each problem is in the log
// once a minute at most, whoever many clients have it. Cookies, static headers and what the app answers are never logged.
package webhook
