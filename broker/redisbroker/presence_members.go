package redisbroker

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/wire"
)

var (
	//go:embed presence_common.lua
	presenceCommonSource string
	//go:embed presence_add.lua
	presenceAddSource string
	//go:embed presence_remove.lua
	presenceRemoveSource string
	//go:embed presence_stats.lua
	presenceStatsSource string
	//go:embed presence_page.lua
	presencePageSource string
	//go:embed presence_sweep.lua
	presenceSweepSource string

	presenceAdd    = rueidis.NewLuaScript(presenceCommonSource + presenceAddSource)
	presenceRemove = rueidis.NewLuaScript(presenceCommonSource + presenceRemoveSource)
	presenceStats  = rueidis.NewLuaScript(presenceCommonSource + presenceStatsSource)
	presencePage   = rueidis.NewLuaScript(presenceCommonSource + presencePageSource)
	presenceSweep  = rueidis.NewLuaScript(presenceCommonSource + presenceSweepSource)
)

// presenceKeys are the keys of a channel's presence, as the scripts expect them.
func (k *keeper) presenceKeys(channel string) []string {
	members := k.leases.broker.key(kindMembers, channel)
	return []string{members, members + "o", members + "n", members + "u"}
}

// memberValue is what Redis keeps of a member besides its client id. Scripts read the user.
func memberValue(m fanfare.ClientInfo) string {
	value := append(strconv.AppendInt(nil, int64(len(m.User)), 10), ':')
	value = append(value, m.User...)
	return string(wire.AppendClientInfo(value, fanfare.ClientInfo{ConnInfo: m.ConnInfo, ChanInfo: m.ChanInfo}))
}

var errMember = errors.New("malformed member")

func parseMember(client, value string) (fanfare.ClientInfo, error) {
	size, rest, ok := strings.Cut(value, ":")
	length, err := strconv.Atoi(size)
	if !ok || err != nil || length < 0 || length > len(rest) {
		return fanfare.ClientInfo{}, errMember
	}
	m, err := wire.ClientInfo([]byte(rest[length:]))
	if err != nil {
		return fanfare.ClientInfo{}, fmt.Errorf("%w: %w", errMember, err)
	}
	m.Client, m.User = client, rest[:length]
	return m, nil
}

// addMember returns how many clients the member's user has then.
func (k *keeper) addMember(ctx context.Context, inc, channel string, m fanfare.ClientInfo) (int, error) {
	result, err := k.shard.run(ctx, presenceAdd, k.presenceKeys(channel), []string{inc, m.Client, memberValue(m)})
	return count(result, err)
}

// removeMember returns how many clients the member's user has left, or -1 if it is not the node's.
func (k *keeper) removeMember(ctx context.Context, node, channel, client string) (int, error) {
	result, err := k.shard.run(ctx, presenceRemove, k.presenceKeys(channel), []string{node, client})
	return count(result, err)
}

func count(result rueidis.RedisResult, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := result.AsInt64()
	return int(n), unexpected(err)
}

// membersAgain puts members in, or takes them out.
func (k *keeper) membersAgain(ctx context.Context, h *holding, inc string, r repair) error {
	keys := k.presenceKeys(r.key.name)
	if r.leaving {
		_, err := k.shard.run(ctx, presenceRemove, keys, append([]string{h.node}, r.clients...))
		return err
	}
	args := []string{inc}
	for i, e := range r.entries {
		args = append(args, r.clients[i], memberValue(e.info))
	}
	_, err := k.shard.run(ctx, presenceAdd, keys, args)
	return err
}

// sweepMembers takes out some members of an incarnation. It also returns how many there were: those that cannot be read are left out.
func (k *keeper) sweepMembers(ctx context.Context, channel, inc string) (members []fanfare.ClientInfo, count int, err error) {
	result, err := k.shard.run(ctx, presenceSweep, k.presenceKeys(channel), []string{inc, strconv.Itoa(sweepMembers)})
	if err != nil {
		return nil, 0, err
	}
	gone, err := result.AsStrSlice()
	if err != nil {
		return nil, 0, unexpected(err)
	}
	for i := 0; i+1 < len(gone); i += 2 {
		if m, err := parseMember(gone[i], gone[i+1]); err == nil {
			members = append(members, m)
		}
	}
	return members, len(gone) / 2, nil
}

// memberCounts are what stats are made of.
type memberCounts struct {
	users  int
	incs   []string
	counts []int
}

func (k *keeper) memberCounts(ctx context.Context, channel string) (memberCounts, error) {
	var c memberCounts
	result, err := k.shard.run(ctx, presenceStats, k.presenceKeys(channel), nil)
	if err != nil {
		return c, err
	}
	answer, err := result.ToArray()
	if err != nil {
		return c, unexpected(err)
	}
	for i, m := range answer {
		if i%2 == 1 {
			inc, err := m.ToString()
			if err != nil {
				return c, unexpected(err)
			}
			c.incs = append(c.incs, inc)
			continue
		}
		n, err := m.AsInt64()
		if err != nil {
			return c, unexpected(err)
		}
		if i == 0 {
			c.users = int(n)
		} else {
			c.counts = append(c.counts, int(n))
		}
	}
	return c, nil
}
