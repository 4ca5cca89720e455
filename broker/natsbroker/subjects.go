package natsbroker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// Subjects are PREFIX.KIND.NAME with what follows. The server stores those of kinds s and n, and republishes what it has stored under
// s as l. Nodes listen to l, so that they get what was stored, in the order of the stream, and nothing that was refused.
//
//	PREFIX.s.CHANNEL.r     the records of a channel
//	PREFIX.s.CHANNEL.HASH  an idempotency key
//	PREFIX.l.CHANNEL.p     publications without history, joins and leaves
//	PREFIX.n.NODE          the lease of a node
//	PREFIX.c.NODE          control messages to one node
//	PREFIX.a               control messages to all

const (
	suffixRecord  = ".r"
	suffixPassing = ".p"
)

func (b *Broker) recordSubject(channel string) string {
	return b.config.Prefix + ".s." + token(channel) + suffixRecord
}

// keySubject is where an idempotency key of a channel is remembered. Keys may be of any length and contain anything.
func (b *Broker) keySubject(channel, key string) string {
	sum := sha256.Sum256([]byte(key))
	return b.config.Prefix + ".s." + token(channel) + "." + hex.EncodeToString(sum[:16])
}

func (b *Broker) passingSubject(channel string) string {
	return b.config.Prefix + ".l." + token(channel) + suffixPassing
}

// liveRecordSubject is where the server republishes the records of a channel.
func (b *Broker) liveRecordSubject(channel string) string {
	return b.config.Prefix + ".l." + token(channel) + suffixRecord
}

func (b *Broker) liveSubject(token string) string { return b.config.Prefix + ".l." + token + ".*" }

// liveToken returns the token of the channel that a message on a live subject belongs to.
func (b *Broker) liveToken(subject string) string {
	name := subject[len(b.config.Prefix)+len(".l."):]
	return name[:strings.IndexByte(name, '.')]
}

func (b *Broker) leaseSubject(node string) string   { return b.config.Prefix + ".n." + token(node) }
func (b *Broker) controlSubject(node string) string { return b.config.Prefix + ".c." + token(node) }
func (b *Broker) everybodySubject() string          { return b.config.Prefix + ".a" }

// token writes any name as one token of a subject that people can still read: what is not plain becomes "=" and two hexadecimal
// digits. The empty name is "=".
func token(name string) string {
	if name == "" {
		return "="
	}
	n := 0
	for i := range len(name) {
		if !plain(name[i]) {
			n++
		}
	}
	if n == 0 {
		return name
	}
	out := make([]byte, 0, len(name)+2*n)
	for i := range len(name) {
		if c := name[i]; plain(c) {
			out = append(out, c)
		} else {
			const digits = "0123456789abcdef"
			out = append(out, '=', digits[c>>4], digits[c&15])
		}
	}
	return string(out)
}

// plain reports whether a byte stands for itself in a token.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_:/@", c) >= 0
}

var errToken = errors.New("malformed token")

// untoken is the reverse of token.
func untoken(t string) (string, error) {
	if t == "=" {
		return "", nil
	}
	out := make([]byte, 0, len(t))
	for i := 0; i < len(t); i++ {
		switch c := t[i]; {
		case plain(c):
			out = append(out, c)
		case c == '=' && i+2 < len(t):
			value, err := hex.DecodeString(t[i+1 : i+3])
			if err != nil {
				return "", errToken
			}
			out = append(out, value[0])
			i += 2
		default:
			return "", errToken
		}
	}
	return string(out), nil
}
