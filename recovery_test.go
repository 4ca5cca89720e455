package fanfare

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/internal/tagfilter"
)

func pubs(epoch string, offsets ...uint64) []*Publication {
	var out []*Publication
	for _, o := range offsets {
		out = append(out, &Publication{Position: Position{o, epoch}, Data: []byte("x")})
	}
	return out
}

func top(epoch string, offset uint64, p ...*Publication) HistoryResult {
	return HistoryResult{Publications: p, Position: Position{offset, epoch}}
}

func offsets(p []*Publication) []uint64 {
	var out []uint64
	for _, p := range p {
		out = append(out, p.Offset)
	}
	return out
}

// TestSeam_Merge has a row for every rule of spec 10.4, 10.5 and 10.6.
func TestSeam_Merge(t *testing.T) {
	tests := []struct {
		name      string
		seam      seam
		gap       bool
		recovered bool
		sent      []uint64
		told      Position
		position  Position
		live      int
	}{
		// Spec 10.4: the recovery decision.
		{"10.4.2 no wish begins at the top", seam{history: top("e", 5)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.4.3 other epoch is not recovered", seam{recover: true, since: Position{3, "old"}, history: top("e", 5, pubs("e", 4, 5)...)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.4.3 empty epoch matches any", seam{recover: true, since: Position{3, ""}, history: top("e", 5, pubs("e", 4, 5)...)},
			false, true, []uint64{4, 5}, Position{3, "e"}, Position{5, "e"}, 0},
		{"10.4.3 epoch _ never matches", seam{recover: true, since: Position{5, "_"}, history: top("e", 5)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.4.4 nothing missed", seam{recover: true, since: Position{5, "e"}, history: top("e", 5)},
			false, true, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.4.4 all that was missed is gone", seam{recover: true, since: Position{3, "e"}, history: top("e", 5)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.4.5 everything missed is there", seam{recover: true, since: Position{2, "e"}, history: top("e", 5, pubs("e", 3, 4, 5)...)},
			false, true, []uint64{3, 4, 5}, Position{2, "e"}, Position{5, "e"}, 0},
		{"10.4.5 the beginning was trimmed", seam{recover: true, since: Position{2, "e"}, history: top("e", 5, pubs("e", 4, 5)...)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.4.5 more was missed than may be sent", seam{recover: true, since: Position{2, "e"}, history: top("e", 9, pubs("e", 3, 4, 5)...)},
			false, false, nil, Position{9, "e"}, Position{9, "e"}, 0},
		{"10.4.6 client ahead of the stream", seam{recover: true, since: Position{7, "e"}, history: top("e", 5)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.4.7 no position, whole stream kept", seam{recover: true, history: top("e", 2, pubs("e", 1, 2)...)},
			false, true, []uint64{1, 2}, Position{0, "e"}, Position{2, "e"}, 0},
		{"10.4.7 no position, empty stream", seam{recover: true, history: top("e", 0)},
			false, true, nil, Position{0, "e"}, Position{0, "e"}, 0},
		{"10.4.7 no position, beginning trimmed", seam{recover: true, history: top("e", 3, pubs("e", 2, 3)...)},
			false, false, nil, Position{3, "e"}, Position{3, "e"}, 0},

		// Spec 10.5: the seam.
		{"10.5.4 duplicates are dropped", seam{recover: true, since: Position{3, "e"}, history: top("e", 5, pubs("e", 4, 5)...), buffered: pubs("e", 4, 5)},
			false, true, []uint64{4, 5}, Position{3, "e"}, Position{5, "e"}, 0},
		{"10.5.4 out of order is sorted", seam{recover: true, since: Position{3, "e"}, history: top("e", 4, pubs("e", 4)...), buffered: pubs("e", 6, 5)},
			false, true, []uint64{4, 5, 6}, Position{3, "e"}, Position{6, "e"}, 0},
		{"10.5.5 gap behind history", seam{recover: true, since: Position{3, "e"}, history: top("e", 4, pubs("e", 4)...), buffered: pubs("e", 6)},
			true, false, nil, Position{}, Position{}, 0},
		{"10.5.5 gap within the buffer", seam{history: top("e", 4), buffered: pubs("e", 5, 7)},
			true, false, nil, Position{}, Position{}, 0},
		{"10.5.5 gap behind the top, nothing asked", seam{history: top("e", 4), buffered: pubs("e", 6)},
			true, false, nil, Position{}, Position{}, 0},
		{"10.5.5 the check that the reference omits: lost exactly at the seam", seam{recover: true, since: Position{4, "e"}, history: top("e", 4), buffered: pubs("e", 6)},
			true, false, nil, Position{}, Position{}, 0},
		{"10.5.6 buffered but not asked: counted, not sent", seam{history: top("e", 4), buffered: pubs("e", 4, 5, 6)},
			false, false, nil, Position{6, "e"}, Position{6, "e"}, 0},
		{"10.5.6 buffered and not recovered: counted, not sent", seam{recover: true, since: Position{1, "old"}, history: top("e", 4), buffered: pubs("e", 5)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.5.6 recovered with what came meanwhile", seam{recover: true, since: Position{3, "e"}, history: top("e", 4, pubs("e", 4)...), buffered: pubs("e", 5)},
			false, true, []uint64{4, 5}, Position{3, "e"}, Position{5, "e"}, 0},
		{"10.5 without offset: behind the reply", seam{history: top("e", 4), buffered: append(pubs("", 0), pubs("e", 5)...)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 1},
		{"10.5 buffered from an earlier life, before the read", seam{history: top("e", 1), buffered: pubs("old", 9), stale: 1},
			false, false, nil, Position{1, "e"}, Position{1, "e"}, 0},
		{"10.5 buffered from a later life, after the read", seam{history: top("e", 1), buffered: pubs("new", 1)},
			true, false, nil, Position{}, Position{}, 0},

		// Spec 10.6: cache recovery.
		{"10.6 without a wish: no data", seam{cache: true, history: top("e", 5)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.6 same state", seam{cache: true, recover: true, since: Position{5, "e"}, history: top("e", 5, pubs("e", 5)...)},
			false, true, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.6 empty history, same state", seam{cache: true, recover: true, since: Position{5, "e"}, history: top("e", 5)},
			false, true, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.6 empty history, other state", seam{cache: true, recover: true, since: Position{4, "e"}, history: top("e", 5)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.6 newest at the top", seam{cache: true, recover: true, since: Position{1, "e"}, history: top("e", 5, pubs("e", 5)...)},
			false, true, []uint64{5}, Position{1, "e"}, Position{5, "e"}, 0},
		{"10.6 newest is not the top", seam{cache: true, recover: true, since: Position{1, "e"}, history: top("e", 5, pubs("e", 4)...)},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
		{"10.6 wrong epoch still gets the newest", seam{cache: true, recover: true, since: Position{5, "old"}, history: top("e", 5, pubs("e", 5)...)},
			false, true, []uint64{5}, Position{4, "e"}, Position{5, "e"}, 0},
		{"10.6 no position gets the newest", seam{cache: true, recover: true, history: top("e", 5, pubs("e", 5)...)},
			false, true, []uint64{5}, Position{0, "e"}, Position{5, "e"}, 0},
		{"10.6 several buffered: only the last", seam{cache: true, recover: true, since: Position{5, "e"}, history: top("e", 5, pubs("e", 5)...), buffered: pubs("e", 6, 7)},
			false, true, []uint64{7}, Position{5, "e"}, Position{7, "e"}, 0},

		// Design 4.1: a recovery that would fill the queue is not recovered.
		{"4.1 too many bytes", seam{recover: true, since: Position{3, "e"}, history: top("e", 5, pubs("e", 4, 5)...), maxBytes: 1},
			false, false, nil, Position{5, "e"}, Position{5, "e"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.seam.merge()
			if tt.gap {
				require.ErrorIs(t, err, errSeamGap)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.recovered, got.recovered, "recovered")
			require.Equal(t, tt.sent, offsets(got.publications), "publications")
			require.Equal(t, tt.told, got.told, "position in the reply")
			require.Equal(t, tt.position, got.position, "position of the subscription")
			require.Len(t, got.live, tt.live, "behind the reply")
		})
	}
}

// requireFilters fails the test unless a filter changes nothing of a decision but what is sent.
func requireFilters(t *testing.T, s seam, j joined) {
	t.Helper()
	var err error
	s.filter, err = tagfilter.Compile(&protocol.FilterNode{Key: "even", Cmp: "ex"})
	require.NoError(t, err)
	passing := func(in []*Publication) (out []*Publication) {
		for _, p := range in {
			if p.Tags != nil {
				out = append(out, p)
			}
		}
		return out
	}
	got, err := s.merge()
	require.NoError(t, err)
	require.Equal(t, j.position, got.position)
	require.Equal(t, j.recovered, got.recovered)
	if !s.cache {
		sent := passing(j.publications)
		told := j.told
		if j.recovered && len(sent) == 0 {
			told = j.position // the reply brings nothing to add to it
		}
		require.Equal(t, told, got.told)
		require.Equal(t, sent, append([]*Publication(nil), got.publications...))
		return
	}
	if len(j.publications) == 0 {
		require.Empty(t, got.publications)
		return
	}
	var newest *Publication
	for _, p := range passing(append(append([]*Publication(nil), s.history.Publications...), s.buffered...)) {
		if p.Offset > 0 && (newest == nil || p.Offset > newest.Offset) {
			newest = p
		}
	}
	if newest == nil {
		require.Empty(t, got.publications)
		require.Equal(t, got.position, got.told)
		return
	}
	require.Equal(t, []uint64{newest.Offset}, offsets(got.publications))
	require.Less(t, got.told.Offset, newest.Offset)
}

// requireExceptions fails the test unless a client that is left out changes nothing of a decision but what is sent.
func requireExceptions(t *testing.T, s seam, j joined) {
	t.Helper()
	s.except = "me"
	got, err := s.merge()
	require.NoError(t, err)
	require.Equal(t, j.position, got.position)
	require.Equal(t, j.recovered, got.recovered)
	var sent []*Publication
	for _, p := range j.publications {
		if p.Except == "" {
			sent = append(sent, p)
		}
	}
	told := j.told
	if j.recovered && len(sent) == 0 {
		told = j.position
	}
	require.Equal(t, told, got.told)
	require.Equal(t, sent, append([]*Publication(nil), got.publications...))
}

// FuzzSeam_Merge: whatever comes, a recovered list is gapless from what the client has to where the subscription stands.
func FuzzSeam_Merge(f *testing.F) {
	f.Add(uint8(3), uint8(4), uint8(6), uint8(2), []byte{5, 6, 7}, true, false)
	f.Add(uint8(0), uint8(1), uint8(0), uint8(0), []byte{}, true, true)
	f.Add(uint8(36), uint8(1), uint8(7), uint8(0), []byte{}, true, true)
	f.Add(uint8(0), uint8(1), uint8(1), uint8(0), []byte{}, true, false)      // all is filtered out
	f.Add(uint8(0), uint8(55), uint8(8), uint8(0), []byte{49, 0}, true, true) // one without an offset
	f.Fuzz(func(t *testing.T, since, first, topOffset, missing uint8, buffered []byte, rec, cache bool) {
		h := HistoryResult{Position: Position{uint64(topOffset), "e"}}
		for o := uint64(max(first, 1)); o <= uint64(topOffset); o++ {
			if o != uint64(missing) {
				h.Publications = append(h.Publications, pubs("e", o)...)
			}
		}
		s := seam{cache: cache, recover: rec, since: Position{uint64(since), "e"}, history: h}
		for _, b := range buffered {
			s.buffered = append(s.buffered, pubs("e", uint64(b))...)
		}
		for _, list := range [][]*Publication{h.Publications, s.buffered} {
			for _, p := range list {
				if p.Offset%2 == 0 {
					p.Tags = map[string]string{"even": ""}
				} else {
					p.Except = "me"
				}
			}
		}
		j, err := s.merge()
		if err != nil {
			require.ErrorIs(t, err, errSeamGap)
			return
		}
		require.GreaterOrEqual(t, j.position.Offset, h.Offset)
		requireFilters(t, s, j)
		requireExceptions(t, s, j)
		if !j.recovered {
			require.Empty(t, j.publications)
			require.Equal(t, j.position, j.told)
			return
		}
		if cache {
			require.LessOrEqual(t, len(j.publications), 1)
			require.LessOrEqual(t, j.told.Offset, uint64(since))
			for _, p := range j.publications {
				require.Less(t, j.told.Offset, p.Offset, "it moves the client forward")
				require.Equal(t, j.position.Offset, p.Offset)
			}
			return
		}
		require.Equal(t, uint64(since), j.told.Offset)
		next := uint64(since) + 1
		for _, p := range j.publications {
			require.Equal(t, next, p.Offset)
			next++
		}
		require.Equal(t, j.position.Offset, next-1)
	})
}
