package redisbroker

import (
	"context"
	"errors"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// slots is the number of slots of a Cluster.
const slots = 16384

// slotOf returns the slot of a key or channel: a checksum of the part in braces, which all our names have.
func slotOf(name string) uint16 {
	if i := strings.IndexByte(name, '{'); i >= 0 {
		if j := strings.IndexByte(name[i+1:], '}'); j > 0 {
			name = name[i+1 : i+1+j]
		}
	}
	var crc uint16 // CRC-16/XMODEM
	for i := range len(name) {
		crc ^= uint16(name[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slots
}

// masters are the servers of a shard: a single one, or those that share the slots of a Cluster.
type masters struct {
	doubts chan struct{} // wakes the watcher of a Cluster; nil otherwise

	mu        sync.RWMutex // guards below
	byAddress map[string]*master
	single    *master // if not of a Cluster
	bySlot    []*master
}

func (ms *masters) of(key string) *master {
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	if ms.single != nil {
		return ms.single
	}
	return ms.bySlot[slotOf(key)]
}

func (ms *masters) all() []*master {
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	var all []*master
	for _, m := range ms.byAddress {
		all = append(all, m)
	}
	return all
}

// add makes the only master of a shard known.
func (ms *masters) add(m *master) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.single, ms.byAddress = m, map[string]*master{m.address: m}
}

// replace puts what was learnt of a Cluster in the place of what was known.
func (ms *masters) replace(byAddress map[string]*master, bySlot []*master) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.byAddress, ms.bySlot = byAddress, bySlot
}

// known returns the masters of a Cluster; nil before the first look.
func (ms *masters) known() map[string]*master {
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	return ms.byAddress
}

// doubt says that what is known of a Cluster may no longer hold.
func (ms *masters) doubt() {
	select {
	case ms.doubts <- struct{}{}:
	default:
	}
}

const (
	// lookEvery is how often a Cluster is asked who serves what, without being told of a change.
	lookEvery = 5 * time.Second
	// lookPause is the least time between two questions.
	lookPause = 100 * time.Millisecond
)

// watch follows the changes of a Cluster.
func (s *shard) watch() {
	wait, next := time.Duration(0), minBackoff
	for pause(s.broker.ctx, lookPause) {
		select {
		case <-s.masters.doubts:
		case <-time.After(lookEvery):
		case <-s.broker.ctx.Done():
			return
		}
		if err := s.refresh(s.broker.ctx); err == nil {
			next = minBackoff
			continue
		}
		if wait, next = backoff(next); !pause(s.broker.ctx, wait) {
			return
		}
		s.masters.doubt()
	}
}

// ranges are the slots of one master.
type ranges struct {
	first, last int64
	address     string
}

// refresh asks who serves which slots, and acts on changes.
func (s *shard) refresh(ctx context.Context) error {
	served, err := s.ask(ctx)
	if err != nil {
		return err
	}
	old := s.masters.known()
	bySlot, byAddress := make([]*master, slots), make(map[string]*master)
	var errs []error // of those that cannot be reached; until they can their slots are nobody's
	for _, r := range served {
		m, met := byAddress[r.address]
		if !met {
			if m = old[r.address]; m == nil {
				if m, err = s.meet(ctx, r.address); err != nil {
					errs = append(errs, err)
				}
			}
			byAddress[r.address] = m // nil, too: one attempt is enough
		}
		for slot := r.first; slot <= r.last; slot++ {
			bySlot[slot] = m
		}
	}
	maps.DeleteFunc(byAddress, func(_ string, m *master) bool { return m == nil })
	s.masters.replace(byAddress, bySlot)
	for address, m := range old {
		if byAddress[address] != m {
			m.cancel()
			s.broker.running.Go(func() {
				<-m.feed.ended
				m.close()
			})
		}
	}
	for address, m := range byAddress {
		if old != nil && old[address] != m {
			m.start()
		}
	}
	s.table.assign()
	return errors.Join(errs...)
}

// meet connects to a master with an address that was not known.
func (s *shard) meet(ctx context.Context, address string) (*master, error) {
	o := s.broker.options(s.server)
	o.InitAddress, o.ForceSingleClient = []string{address}, true
	client, err := rueidis.NewClient(o)
	if err != nil {
		return nil, err
	}
	if err := s.examine(ctx, client); err != nil {
		client.Close()
		return nil, err
	}
	return s.newMaster(address, client), nil
}

// ask asks one master after the other, the ones that are there first, and whoever the library finds in the end.
func (s *shard) ask(ctx context.Context) (served []ranges, err error) {
	var away []*master
	for _, m := range s.masters.all() {
		if m.unavailable() != nil {
			away = append(away, m)
			continue
		}
		if served, err = s.askOne(ctx, m.client, m.address); err == nil {
			return served, nil
		}
	}
	for _, address := range s.server.Addresses {
		if served, err = s.askOne(ctx, s.client, address); err == nil {
			return served, nil
		}
	}
	for _, m := range away {
		if served, err = s.askOne(ctx, m.client, m.address); err == nil {
			return served, nil
		}
	}
	return nil, err
}

var errSlots = errors.New("CLUSTER SLOTS has an answer that nobody expects")

func (s *shard) askOne(ctx context.Context, client rueidis.Client, address string) ([]ranges, error) {
	ctx, cancel := context.WithTimeout(ctx, s.broker.config.Timeout)
	defer cancel()
	lines, err := client.Do(ctx, client.B().ClusterSlots().Build()).ToArray()
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var served []ranges
	for _, line := range lines {
		r, err := rangesOf(&line, host)
		if err != nil {
			return nil, err
		}
		served = append(served, r)
	}
	if len(served) == 0 {
		return nil, errors.New("the Cluster serves no slots")
	}
	return served, nil
}

// rangesOf reads the first slot, the last slot, and the master, of which an empty host is the one that was asked.
func rangesOf(line *rueidis.RedisMessage, asked string) (ranges, error) {
	parts, err := line.ToArray()
	if err != nil || len(parts) < 3 {
		return ranges{}, errSlots
	}
	first, errFirst := parts[0].AsInt64()
	last, errLast := parts[1].AsInt64()
	node, errNode := parts[2].ToArray()
	if errors.Join(errFirst, errLast, errNode) != nil || len(node) < 2 || first < 0 || first > last || last >= slots {
		return ranges{}, errSlots
	}
	host, _ := node[0].ToString() // null if it is not known
	if host == "" || host == "?" {
		host = asked
	}
	port, err := node[1].AsInt64()
	if err != nil {
		return ranges{}, errSlots
	}
	return ranges{first, last, net.JoinHostPort(host, strconv.FormatInt(port, 10))}, nil
}
