package fanfare

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// What a delivery looks at of a subscription, and of its client, lies on one line of the cache each, which is no neighbour's.
func TestLayout_OfADelivery(t *testing.T) {
	const line = 64
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64 bits")
	}
	var s subscription
	require.LessOrEqual(t, unsafe.Offsetof(s.positioned)+1, uintptr(line))
	require.EqualValues(t, 3*line, unsafe.Sizeof(s))

	var c Client
	require.LessOrEqual(t, unsafe.Offsetof(c.out)+unsafe.Offsetof(c.out.empty)+unsafe.Sizeof(c.out.empty), uintptr(line))
	require.EqualValues(t, 7*line, unsafe.Sizeof(c))
}
