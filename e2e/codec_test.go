//go:build unix

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// The Protobuf codec of the node against the one in the SDK, with messages by chance. FANFARE_E2E_SEED repeats a run.

// rounds are the frames of one test, of several messages each.
const rounds = 200

func TestCodec_WhatTheNodeSendsTheSDKReads(t *testing.T) {
	sdk := startCodec(t)
	g := newGenerator(t)
	for round := range rounds {
		var frame []byte
		var want []any
		for i := range 10 {
			message, says := g.outgoing(round*10 + i)
			frame = protowire.AppendBytes(frame, message)
			want = append(want, says)
		}
		got := sdk.do(t, "decodeReplies", "frame", frame)
		wanted, err := json.Marshal(want)
		require.NoError(t, err)
		require.JSONEq(t, string(wanted), string(got), "round %d, frame %x", round, frame)
	}
}

// outgoing is a message of the server, and what it says. The kinds take turns; at first all their fields are set.
func (g *generator) outgoing(turn int) (message []byte, says any) {
	g.full = turn < 100
	if turn%3 > 0 {
		push := new(protocol.Push)
		g.fillOne(push, turn/3)
		return protocol.Protobuf.AppendPush(nil, push), map[string]any{"push": g.says(push)}
	}
	if turn%60 == 0 {
		return protocol.Protobuf.AppendPing(nil), map[string]any{}
	}
	reply := new(protocol.Reply)
	g.fillOne(reply, turn/3)
	return protocol.Protobuf.AppendReply(nil, reply), g.says(reply)
}

func TestCodec_WhatTheSDKSendsTheNodeReads(t *testing.T) {
	sdk := startCodec(t)
	g := newGenerator(t)
	g.narrow = true
	for round := range rounds {
		var want []*protocol.Command
		var commands []any
		for i := range 10 {
			turn := round*10 + i
			g.full = turn < 100
			cmd := new(protocol.Command)
			if turn%60 > 0 { // else a pong
				g.fillOne(cmd, turn)
			}
			want = append(want, cmd)
			commands = append(commands, g.asked(cmd))
		}
		var frame []byte
		require.NoError(t, json.Unmarshal(sdk.do(t, "encodeCommands", "commands", commands), &frame))
		requireCommands(t, want, frame, "round %d, frame %x", round, frame)
		requireCommands(t, want, g.withUnknownFields(t, frame), "round %d, with unknown fields", round)

		request := map[string]any{"node": g.text(), "session": g.text(), "data": bytesValue(frame)}
		var body []byte
		require.NoError(t, json.Unmarshal(sdk.do(t, "encodeEmulationRequest", "request", request), &body))
		got, err := protocol.DecodeProtobufEmulation(body)
		require.NoError(t, err)
		require.Equal(t, protocol.EmulationRequest{Node: request["node"].(string), Session: request["session"].(string), Data: frame}, got)
	}
}

func requireCommands(t *testing.T, want []*protocol.Command, frame []byte, message string, args ...any) {
	t.Helper()
	for _, w := range want {
		cmd, rest, err := protocol.Protobuf.NextCommand(frame)
		require.NoError(t, err, fmt.Sprintf(message, args...))
		require.Equal(t, w, cmd, fmt.Sprintf(message, args...))
		frame = rest
	}
	require.Empty(t, frame)
}

// withUnknownFields puts fields of a later version around those of each message in a frame.
func (g *generator) withUnknownFields(t *testing.T, frame []byte) (out []byte) {
	t.Helper()
	for len(frame) > 0 {
		message, n := protowire.ConsumeBytes(frame)
		require.Positive(t, n)
		frame = frame[n:]
		out = protowire.AppendBytes(out, g.unknownField(append(g.unknownField(nil), message...)))
	}
	return out
}

func (g *generator) unknownField(dst []byte) []byte {
	num := protowire.Number(16 + g.IntN(1<<20))
	switch g.IntN(5) {
	case 0:
		return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), g.Uint64())
	case 1:
		return protowire.AppendFixed32(protowire.AppendTag(dst, num, protowire.Fixed32Type), g.Uint32())
	case 2:
		return protowire.AppendFixed64(protowire.AppendTag(dst, num, protowire.Fixed64Type), g.Uint64())
	case 3:
		return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), g.bytes())
	}
	dst = g.unknownFieldIn(protowire.AppendTag(dst, num, protowire.StartGroupType))
	return protowire.AppendTag(dst, num, protowire.EndGroupType)
}

func (g *generator) unknownFieldIn(dst []byte) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, 1, protowire.VarintType), g.Uint64())
}

func newGenerator(t *testing.T) *generator {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FANFARE_E2E_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "FANFARE_E2E_SEED")
	}
	t.Logf("FANFARE_E2E_SEED=%d", seed)
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
}

// sdkCodec is the SDK's codec, in a Node of its own.
type sdkCodec struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func startCodec(t *testing.T) *sdkCodec {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), lookNode(t), "js/codec.mjs") // a test that hangs ends with its context
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // it ends with its input
		_ = cmd.Wait() // the context has ended, which may have been first
	})
	return &sdkCodec{in, bufio.NewReader(out)}
}

// do returns the result of an operation that takes one value.
func (c *sdkCodec) do(t *testing.T, operation, name string, value any) json.RawMessage {
	t.Helper()
	request, err := json.Marshal(map[string]any{"do": operation, name: value})
	require.NoError(t, err)
	_, err = c.in.Write(append(request, '\n'))
	require.NoError(t, err)
	line, err := c.out.ReadBytes('\n')
	require.NoError(t, err)
	var answer struct {
		Result json.RawMessage
		Error  string
	}
	require.NoError(t, json.Unmarshal(line, &answer))
	require.Empty(t, answer.Error, "%s of %s", operation, request)
	return answer.Result
}
