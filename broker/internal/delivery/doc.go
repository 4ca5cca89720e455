// Package delivery checks over real sockets what the library promises: on a channel with history every accepted publication
// reaches every client that stays or comes back, once, in one order common to all; or the client is told of a gap before it sees
// anything newer.
//
// A [Run] has publishers at several nodes, and clients of every door in front of which a [Balancer] picks a node at random for
// each connection: no stickiness, so the requests of one emulated session end up anywhere. The clients were written from the
// protocol's description and share no code with the server. Each comes back by itself with its last position, some also leave by
// themselves all the time. They keep a [Tale] of what they saw and what they were told; the publishers keep what was accepted and
// what may have been. [Record.Check] compares all of it, and is tested with records of every kind of wrong.
package delivery
