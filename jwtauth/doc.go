// Package jwtauth lets clients of a [fanfare.Node] prove by JSON Web Tokens who they are and what they may watch: with the claims, and
// the answers, that the published SDKs know (spec 15, 5.1, 5.2, 5.9 and 5.10).
//
//	v, err := jwtauth.New(jwtauth.Config{HMACSecret: secret})
//	node, err := fanfare.New(fanfare.Config{Authenticate: v.Authenticate, Refresh: v.Refresh})
//	node.Channel("room:{id}", fanfare.ChannelOptions{Subscribe: v.Subscribe, SubRefresh: v.SubRefresh})
//
// The methods of a [Verifier] are hooks, and nothing else: an app that wants more calls them from its own. A [Signer] makes the tokens,
// for apps that have no other issuer. An app whose login is a cookie needs none of this.
//
// docs/tokens.md lists the claims, and which answer follows from what.
package jwtauth
