package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func storePath(t *testing.T) string { return filepath.Join(t.TempDir(), "data", "chat.jsonl") }

// open opens a store with the room "a".
func open(t *testing.T, path string) *store {
	t.Helper()
	s, err := openStore(path, 0)
	require.NoError(t, err)
	t.Cleanup(func() { s.close() })
	require.NoError(t, s.addRoom(room{"a", "Room A"}))
	return s
}

func say(t *testing.T, s *store, text string) message {
	t.Helper()
	m, err := s.addMessage(message{Room: "a", User: "Ada", Text: text, Key: "key of " + text, At: time.Unix(1, 0).UTC()})
	require.NoError(t, err)
	return m
}

func texts(msgs []message) (list []string) {
	for _, m := range msgs {
		list = append(list, fmt.Sprintf("%d %s", m.ID, m.Text))
	}
	return list
}

func allTexts(s *store) []string {
	msgs, _ := s.after("a", 0, 1000)
	return texts(msgs)
}

func TestStore_KeepsWhatWasStored(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	first := say(t, s, "one\n<two>")
	require.NoError(t, s.close())

	s = open(t, path)
	msgs, more := s.after("a", 0, 10)
	require.Equal(t, []message{first}, msgs)
	require.False(t, more)
	require.Equal(t, []room{{"a", "Room A"}}, s.allRooms())
	require.Equal(t, 2, say(t, s, "three").ID)
}

// TestStore_TornLastLine cuts the last record at each of its bytes.
func TestStore_TornLastLine(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	say(t, s, "one")
	whole := s.size
	say(t, s, "two")
	require.NoError(t, s.close())
	file, err := os.ReadFile(path)
	require.NoError(t, err)

	for size := int(whole); size < len(file); size++ {
		path := filepath.Join(t.TempDir(), "chat.jsonl")
		require.NoError(t, os.WriteFile(path, file[:size], 0o600))
		s := open(t, path)
		require.Equal(t, []string{"1 one"}, allTexts(s), "file cut to %d of %d bytes", size, len(file))
		say(t, s, "three")
		require.NoError(t, s.close())

		s = open(t, path)
		require.Equal(t, []string{"1 one", "2 three"}, allTexts(s), "file cut to %d of %d bytes", size, len(file))
		require.NoError(t, s.close())
	}
}

func TestStore_DamageIsAnErrorAndLeftAlone(t *testing.T) {
	const roomLine = `{"room":{"id":"a","name":"A"}}` + "\n"
	for name, row := range map[string]struct{ file, problem string }{
		"not JSON":       {roomLine + "nonsense\n" + roomLine, "line 2"},
		"empty record":   {"{}\n", "empty record"},
		"room twice":     {roomLine + roomLine, `room "a" twice`},
		"unknown room":   {`{"message":{"id":1,"room":"a"}}` + "\n", "no such room"},
		"missing number": {roomLine + `{"message":{"id":2,"room":"a"}}` + "\n", "want 1"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "chat.jsonl")
			require.NoError(t, os.WriteFile(path, []byte(row.file+"torn"), 0o600))
			_, err := openStore(path, 0)
			require.ErrorContains(t, err, row.problem)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, row.file+"torn", string(b))
		})
	}
}

func TestStore_SameKeyIsStoredOnce(t *testing.T) {
	path := storePath(t)
	s := open(t, path)
	m := say(t, s, "one")
	require.Equal(t, m, say(t, s, "one"))
	require.NoError(t, s.close())

	s = open(t, path)
	require.Equal(t, m, say(t, s, "one"), "after a restart")
	other, err := s.addMessage(message{Room: "a", User: "Bob", Text: "mine", Key: m.Key})
	require.NoError(t, err)
	require.Equal(t, 2, other.ID, "another user's key is another key")
	require.Equal(t, 2, s.last("a"))
}

func TestStore_FailedWriteLeavesNothing(t *testing.T) {
	s := open(t, storePath(t))
	say(t, s, "one")
	// The disk goes away.
	require.NoError(t, s.file.Close())

	_, err := s.addMessage(message{Room: "a", User: "Ada", Text: "two", Key: "k"})
	require.Error(t, err)
	require.Equal(t, []string{"1 one"}, allTexts(s))
	_, err = s.addMessage(message{Room: "a", User: "Ada", Text: "two", Key: "k"})
	require.ErrorIs(t, err, errStoreBroken)
}

// TestStore_BrokenStaysBroken: a sync that succeeds says nothing of a record whose end is unknown.
func TestStore_BrokenStaysBroken(t *testing.T) {
	path := storePath(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := openStore(path, time.Second)
		require.NoError(t, err)
		defer s.close()
		require.NoError(t, s.addRoom(room{"a", "Room A"})) // awaits its sync
		// The disk takes nothing more, neither a record nor that its half is cut off, but it syncs.
		readOnly, err := os.Open(path)
		require.NoError(t, err)
		s.mu.Lock()
		require.NoError(t, s.file.Close())
		s.file = readOnly
		s.mu.Unlock()
		require.Error(t, s.addRoom(room{"b", "Room B"}))

		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.ErrorIs(t, s.addRoom(room{"c", "Room C"}), errStoreBroken)
	})
}

// TestStore_RoomsOpenedAtOnce: whoever opens a room gets the one with their name, though others' names make the same id.
func TestStore_RoomsOpenedAtOnce(t *testing.T) {
	s, err := openStore(storePath(t), time.Hour)
	require.NoError(t, err)
	defer s.close()
	for round := range 100 {
		names := []string{"!", "?", "!", "?"}
		ids := make([]string, len(names))
		start := make(chan struct{})
		var all sync.WaitGroup
		for i := range names {
			names[i] = fmt.Sprint("round ", round, names[i])
			all.Go(func() {
				<-start
				id, err := s.openRoom(names[i])
				if err != nil {
					t.Error(err)
				}
				ids[i] = id
			})
		}
		close(start)
		all.Wait()
		for i, id := range ids {
			r, ok := s.room(id)
			require.True(t, ok, id)
			require.Equal(t, names[i], r.Name)
		}
		require.Len(t, s.allRooms(), 2*(round+1))
	}
}

func TestStore_UnknownRoom(t *testing.T) {
	s := open(t, storePath(t))
	_, err := s.addMessage(message{Room: "b"})
	require.ErrorIs(t, err, errNoRoom)
}

func TestStore_Pages(t *testing.T) {
	s := open(t, storePath(t))
	for i := range 5 {
		say(t, s, fmt.Sprint("m", i+1))
	}
	type page func(room string, id, limit int) ([]message, bool)
	for name, row := range map[string]struct {
		read      page
		id, limit int
		want      []string
		more      bool
	}{
		"from the start":    {s.after, 0, 2, []string{"1 m1", "2 m2"}, true},
		"up to the end":     {s.after, 3, 2, []string{"4 m4", "5 m5"}, false},
		"after the end":     {s.after, 9, 2, nil, false},
		"after nonsense":    {s.after, -1, 1, []string{"1 m1"}, true},
		"before the end":    {s.before, 1 << 40, 2, []string{"4 m4", "5 m5"}, true},
		"before the third":  {s.before, 3, 2, []string{"1 m1", "2 m2"}, false},
		"before the first":  {s.before, 1, 2, nil, false},
		"before nonsense":   {s.before, -7, 2, nil, false},
		"fewer than wanted": {s.before, 2, 9, []string{"1 m1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			msgs, more := row.read("a", row.id, row.limit)
			require.Equal(t, row.want, texts(msgs))
			require.Equal(t, row.more, more)
		})
	}
}

func TestStore_ConcurrentMessagesHaveDenseIDs(t *testing.T) {
	path := storePath(t)
	s, err := openStore(path, time.Millisecond)
	require.NoError(t, err)
	require.NoError(t, s.addRoom(room{"a", "Room A"}))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 50 {
				_, err := s.addMessage(message{Room: "a", User: "Ada", Text: "x", Key: fmt.Sprint(i, "/", j)})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, s.close())
	require.NoError(t, s.close(), "twice")
	_, err = s.addMessage(message{Room: "a", User: "Ada", Text: "x", Key: "late"})
	require.Error(t, err)

	require.Equal(t, 400, open(t, path).last("a")) // load checks each number
}
