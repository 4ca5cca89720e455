package websocket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
)

// unframe takes frames of one framing apart into messages.
func unframe(t testing.TB, f transport.Framing, frames []byte) (messages [][]byte, sizes []int) {
	for len(frames) > 0 {
		op, payload, rest, err := nextFrame(frames)
		require.NoError(t, err)
		sizes = append(sizes, len(frames)-len(rest))
		frames = rest
		switch f.(type) {
		case textFraming:
			require.EqualValues(t, finText, op)
			messages = append(messages, bytes.Split(payload, []byte("\n"))...)
		case singleFraming:
			require.EqualValues(t, finText, op)
			messages = append(messages, payload)
		case binaryFraming:
			require.EqualValues(t, finBinary, op)
			for len(payload) > 0 {
				size, n := binary.Uvarint(payload)
				require.Positive(t, n)
				messages = append(messages, payload[n:n+int(size)])
				payload = payload[n+int(size):]
			}
		}
	}
	return messages, sizes
}

var framings = []transport.Framing{textFraming{}, singleFraming{}, binaryFraming{}}

func TestAppendFrame_GivesTheBytesOfTheProtocol(t *testing.T) {
	t.Parallel()
	a, b := []byte(`{"id":1}`), []byte(`{}`)
	require.Equal(t, "\x81\x0b{\"id\":1}\n{}", string(textFraming{}.AppendFrame(nil, a, b)))
	require.Equal(t, "\x81\x08{\"id\":1}\x81\x02{}", string(singleFraming{}.AppendFrame(nil, a, b)))
	require.Equal(t, "\x82\x05\x01x\x00\x01y", string(binaryFraming{}.AppendFrame(nil, []byte("x"), nil, []byte("y"))))
	require.Equal(t, "\x89\x02ff", string((*conn)(nil).AppendPing(nil)))
	for _, f := range framings {
		require.Equal(t, "kept", string(f.AppendFrame([]byte("kept"))), "no messages, no frame")
	}
}

func TestAppendFrame_HeaderGrowsWithThePayload(t *testing.T) {
	t.Parallel()
	for size, header := range map[int]int{1: 2, 125: 2, 126: 4, 0xffff: 4, 0x10000: 10, 200_000: 10} {
		frame := textFraming{}.AppendFrame(nil, make([]byte, size))
		require.Len(t, frame, header+size)
		_, payload, rest, err := nextFrame(frame)
		require.NoError(t, err)
		require.Len(t, payload, size)
		require.Empty(t, rest)
	}
}

func TestAppendFrame_JoinsUpTo64KiB(t *testing.T) {
	t.Parallel()
	for _, f := range []transport.Framing{textFraming{}, binaryFraming{}} {
		var all [][]byte
		for i := range 2000 {
			all = append(all, bytes.Repeat([]byte{'x'}, 1+i*7%300))
		}
		all = append(all, bytes.Repeat([]byte{'y'}, 100_000), []byte("z"))
		messages, sizes := unframe(t, f, f.AppendFrame(nil, all...))
		require.Equal(t, all, messages)
		for _, size := range sizes[:len(sizes)-2] {
			require.LessOrEqual(t, size, 64<<10)
		}
		require.Greater(t, sizes[0], 60<<10, "frames are filled")
	}
}

func TestAppendFrame_AllocatesNothingWithRoom(t *testing.T) {
	messages := [][]byte{[]byte(`{"push":{}}`), bytes.Repeat([]byte{'x'}, 70_000), []byte(`{}`)}
	dst := make([]byte, 0, 80_000)
	for _, f := range framings {
		require.Zero(t, testing.AllocsPerRun(100, func() { dst = f.AppendFrame(dst[:0], messages...) }), "%T", f)
	}
}

func TestCutFrame_IsTheRestOfOneFrame(t *testing.T) {
	t.Parallel()
	frames := singleFraming{}.AppendFrame(nil, []byte("one"), bytes.Repeat([]byte{'x'}, 300), []byte("three"))
	ends := []int{5, 5 + 304, 5 + 304 + 7}
	for n := range len(frames) + 1 {
		want := 0
		for i, end := range ends {
			if start := append([]int{0}, ends...)[i]; n > start && n < end {
				want = end - n
			}
		}
		require.Len(t, cutFrame(frames, n), want, "cut after %d", n)
	}
}

func FuzzAppendFrame(f *testing.F) {
	f.Add([]byte("\x03abc\x02de"), uint8(0), uint16(3))
	f.Add([]byte("\xff"+string(make([]byte, 300))), uint8(2), uint16(100))
	f.Fuzz(func(t *testing.T, data []byte, kind uint8, cut uint16) {
		framing := framings[int(kind)%len(framings)]
		var messages [][]byte
		for len(data) > 0 { // the first byte says how long a message is; some become large
			size := min(int(data[0])+1, len(data))
			m := bytes.ReplaceAll(data[:size], []byte("\n"), []byte(" "))
			if data[0] > 0xf0 {
				m = bytes.Repeat(m, 200)
			}
			messages, data = append(messages, m), data[size:]
		}
		frames := framing.AppendFrame(nil, messages...)
		got, sizes := unframe(t, framing, frames)
		require.Equal(t, messages, got)
		for _, size := range sizes {
			require.True(t, size <= 64<<10 || len(sizes) <= len(messages))
		}
		if len(frames) == 0 {
			return
		}
		n := int(cut) % len(frames)
		missing := cutFrame(frames, n)
		left := frames[n+len(missing):]
		_, _ = unframe(t, framing, left) // which starts between frames
		_, _ = unframe(t, framing, frames[:n+len(missing)])
	})
}

func FuzzNextFrame(f *testing.F) {
	f.Add(textFraming{}.AppendFrame(nil, []byte("{}")))
	f.Add([]byte("\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, payload, rest, err := nextFrame(data)
		if err == nil {
			require.Less(t, len(rest)+len(payload), len(data))
		}
		for _, n := range []int{0, len(data) / 2, len(data)} {
			require.LessOrEqual(t, len(cutFrame(data, n)), len(data)-n)
		}
	})
}

func BenchmarkAppendFrame(b *testing.B) {
	for _, f := range framings {
		for _, count := range []int{1, 64} {
			b.Run(fmt.Sprintf("%T/messages=%d", f, count), func(b *testing.B) {
				messages := make([][]byte, count)
				for i := range messages {
					messages[i] = make([]byte, 160)
				}
				dst := make([]byte, 0, 200*count)
				b.ReportAllocs()
				for b.Loop() {
					dst = f.AppendFrame(dst[:0], messages...)
				}
			})
		}
	}
}
