package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// message is one line of a conversation. IDs are dense within a room and start at 1: a page that holds 7 and is given 9
// knows that it misses exactly one message, whatever the reason.
type message struct {
	ID   int       `json:"id"`
	Room string    `json:"room"`
	User string    `json:"user"`
	Text string    `json:"text"`
	At   time.Time `json:"at"`
	// Key is the sender's own name for the message, made before it is sent. A sender that got no answer sends again
	// with the same key, and the message is stored once.
	Key string `json:"key"`
}

// room is a place to talk.
type room struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// record is one line of the file: exactly one of its fields is set.
type record struct {
	Room    *room    `json:"room,omitempty"`
	Message *message `json:"message,omitempty"`
}

var (
	errNoRoom      = errors.New("no such room")
	errStoreBroken = errors.New("store is broken until it is opened again")
)

// store keeps rooms and messages in memory and in an append-only file of JSON lines. It stands for the database of a
// real app: what matters here is that a message is in it before anybody sees it. Safe for concurrent use.
type store struct {
	file      *os.File
	syncEvery time.Duration
	stop      chan struct{} // closed by close
	done      chan struct{} // closed when syncLoop has returned

	mu       sync.Mutex // guards below
	size     int64      // length of the file up to its last whole record
	dirty    bool       // written since the last fsync
	broken   bool       // the file's end is unknown: nothing more may be appended
	closed   bool
	order    []string // room ids, oldest first
	rooms    map[string]room
	messages map[string][]message
	byKey    map[string]int // messageKey -> message id
}

// openStore reads the file at path, or makes an empty one. syncEvery says what a power cut may cost: 0 syncs every
// message before it is answered, a positive duration syncs at most that often. A killed process loses nothing in either
// case, because the kernel already has what was written.
//
// A last line without a line feed was being written when the machine stopped. Nobody was told that it was stored, so it
// is cut off. A bad line anywhere else is damage that a program should not repair by itself, and an error.
func openStore(path string, syncEvery time.Duration) (*store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of store: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &store{
		file:      f,
		syncEvery: syncEvery,
		stop:      make(chan struct{}),
		done:      make(chan struct{}),
		rooms:     make(map[string]room),
		messages:  make(map[string][]message),
		byKey:     make(map[string]int),
	}
	if err := s.load(); err != nil {
		f.Close()
		return nil, fmt.Errorf("read store %s: %w", path, err)
	}
	// Owned by the store; close stops it and waits for it.
	go s.syncLoop()
	return s, nil
}

func (s *store) load() error {
	r := bufio.NewReader(s.file)
	for line := 1; ; line++ {
		b, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // b, if not empty, is the torn last line
		}
		if err != nil {
			return err
		}
		var rec record
		if err := json.Unmarshal(b, &rec); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if err := s.apply(rec); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		s.size += int64(len(b))
	}
	return s.rewind()
}

// rewind cuts off what follows the last whole record and puts the file's cursor there.
func (s *store) rewind() error {
	if err := s.file.Truncate(s.size); err != nil {
		return err
	}
	_, err := s.file.Seek(s.size, io.SeekStart)
	return err
}

func (s *store) apply(rec record) error {
	switch {
	case rec.Room != nil:
		if _, ok := s.rooms[rec.Room.ID]; ok {
			return fmt.Errorf("room %q twice", rec.Room.ID)
		}
		s.rooms[rec.Room.ID] = *rec.Room
		s.order = append(s.order, rec.Room.ID)
	case rec.Message != nil:
		m := *rec.Message
		if _, ok := s.rooms[m.Room]; !ok {
			return fmt.Errorf("message of room %q: %w", m.Room, errNoRoom)
		}
		if want := len(s.messages[m.Room]) + 1; m.ID != want {
			return fmt.Errorf("message %d of room %q, want %d", m.ID, m.Room, want)
		}
		s.messages[m.Room] = append(s.messages[m.Room], m)
		s.byKey[messageKey(m)] = m.ID
	default:
		return errors.New("empty record")
	}
	return nil
}

// messageKey holds the user too, so that nobody can make another's message look like a repetition.
func messageKey(m message) string { return m.Room + "\x00" + m.User + "\x00" + m.Key }

// append writes one record; s.mu is held. After an error nothing of the record is left.
func (s *store) append(rec record) error {
	if s.broken || s.closed {
		return errStoreBroken
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(rec); err != nil { // ends with a line feed
		return err
	}
	_, err := s.file.Write(b.Bytes())
	if err == nil && s.syncEvery <= 0 {
		err = s.file.Sync()
	}
	if err != nil {
		// Half a line at the end would swallow the next record.
		if rerr := s.rewind(); rerr != nil {
			s.broken = true
			err = errors.Join(err, rerr)
		}
		return fmt.Errorf("append to store: %w", err)
	}
	s.size += int64(b.Len())
	s.dirty = s.syncEvery > 0
	return s.apply(rec)
}

// addMessage stores m, gives it its id and returns it. A message that the user has stored under this key before is
// returned as it is.
func (s *store) addMessage(m message) (message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.rooms[m.Room]; !ok {
		return message{}, errNoRoom
	}
	if id, ok := s.byKey[messageKey(m)]; ok {
		return s.messages[m.Room][id-1], nil
	}
	m.ID = len(s.messages[m.Room]) + 1
	return m, s.append(record{Message: &m})
}

// addRoom stores a room, unless there is one with its id.
func (s *store) addRoom(r room) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.rooms[r.ID]; ok {
		return nil
	}
	return s.append(record{Room: &r})
}

// openRoom returns the id of the room with this name, and makes the room if there is none. Two rooms that are opened at
// once and whose names make the same id get different ones.
func (s *store) openRoom(name string) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	base := roomID(name)
	id = base
	for n := 2; ; n++ {
		r, taken := s.rooms[id]
		if !taken {
			return id, s.append(record{Room: &room{ID: id, Name: name}})
		}
		if strings.EqualFold(r.Name, name) {
			return id, nil
		}
		id = fmt.Sprintf("%s-%d", base, n)
	}
}

// roomID makes a word for URLs and channels of a name: no colon, which would begin another segment of the channel.
func roomID(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	return cmp.Or(strings.Join(words, "-"), "room")
}

func (s *store) room(id string) (room, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rooms[id]
	return r, ok
}

// allRooms returns the rooms, oldest first.
func (s *store) allRooms() []room {
	s.mu.Lock()
	defer s.mu.Unlock()
	rooms := make([]room, len(s.order))
	for i, id := range s.order {
		rooms[i] = s.rooms[id]
	}
	return rooms
}

// last returns the newest id of a room, 0 if nothing has been said.
func (s *store) last(roomID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages[roomID])
}

// after returns up to limit messages of a room with ids over id, oldest first, and whether there are more.
func (s *store) after(roomID string, id, limit int) (msgs []message, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.messages[roomID]
	from := min(max(id, 0), len(all))
	to := min(from+limit, len(all))
	return append(msgs, all[from:to]...), to < len(all)
}

// before returns up to limit messages of a room with ids under id, oldest first, and whether there are older ones.
func (s *store) before(roomID string, id, limit int) (msgs []message, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.messages[roomID]
	to := min(max(id-1, 0), len(all))
	from := max(to-limit, 0)
	return append(msgs, all[from:to]...), from > 0
}

func (s *store) syncLoop() {
	defer close(s.done)
	if s.syncEvery <= 0 {
		return
	}
	tick := time.NewTicker(s.syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.mu.Lock()
			if s.dirty {
				s.dirty = false
				// What the disk refused once must not be trusted to be there after a second, successful try.
				s.broken = s.file.Sync() != nil || s.broken
			}
			s.mu.Unlock()
		}
	}
}

// close syncs and closes the file. Later appends fail. It may be called twice.
func (s *store) close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	<-s.done
	return errors.Join(s.file.Sync(), s.file.Close())
}
