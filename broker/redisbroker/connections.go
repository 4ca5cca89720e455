package redisbroker

import (
	"context"
	_ "embed"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
)

var (
	//go:embed connections_common.lua
	connectionsCommonSource string
	//go:embed connections_add.lua
	connectionsAddSource string
	//go:embed connections_restore.lua
	connectionsRestoreSource string
	//go:embed connections_remove.lua
	connectionsRemoveSource string
	//go:embed connections_sweep.lua
	connectionsSweepSource string

	connectionsAdd     = rueidis.NewLuaScript(connectionsCommonSource + connectionsAddSource)
	connectionsRestore = rueidis.NewLuaScript(connectionsCommonSource + connectionsRestoreSource)
	connectionsRemove  = rueidis.NewLuaScript(connectionsCommonSource + connectionsRemoveSource)
	connectionsSweep   = rueidis.NewLuaScript(connectionsCommonSource + connectionsSweepSource)
)

var _ fanfare.ConnectionCounter = (*Broker)(nil)

// Answers of connections_add.lua.
const (
	connectionRefused = iota
	connectionCounted
	connectionUndecided // incarnations are to be judged first
)

// AddConnection implements [fanfare.ConnectionCounter].
func (b *Broker) AddConnection(ctx context.Context, c fanfare.UserConnection, limit int, replace bool) (a fanfare.Admission, err error) {
	if err := ctx.Err(); err != nil {
		return a, err
	}
	k := b.shard(c.User).keeper
	d := debt{placeKey{kindUser, c.User}, c.Client}
	err = k.put(ctx, c.Node, forLink, d, fanfare.ClientInfo{}, func(inc string) (bool, error) {
		replaced := a.Replaced // by a try before, under a lease that was lost meanwhile
		if a, err = k.addConnection(ctx, inc, c, limit, replace); a.Replaced.Client == "" {
			a.Replaced = replaced
		}
		return a.Admitted, err
	})
	if err != nil {
		return fanfare.Admission{}, err
	}
	return a, nil
}

// RemoveConnection implements [fanfare.ConnectionCounter].
func (b *Broker) RemoveConnection(ctx context.Context, c fanfare.UserConnection) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k := b.shard(c.User).keeper
	if !k.holdsFor(c.Node, forLink) {
		return fanfare.ErrClosed
	}
	return k.take(c.Node, debt{placeKey{kindUser, c.User}, c.Client}, func(inc string) error {
		_, err := k.shard.run(ctx, connectionsRemove, k.connectionKeys(c.User), []string{connectionMember(inc, c.Client)})
		return err
	})
}

func (k *keeper) connectionKeys(user string) []string {
	return []string{k.leases.broker.key(kindUser, user)}
}

// connectionMember is how Redis names a connection. Scripts know the form.
func connectionMember(inc, client string) string { return strconv.Itoa(len(inc)) + ":" + inc + client }

func parseConnection(member string) (inc, client string) {
	size, rest, _ := strings.Cut(member, ":")
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n > len(rest) {
		return "", ""
	}
	return rest[:n], rest[n:]
}

// addConnection counts a connection in. If there is no room, the script asks which of those that are counted belong to living nodes.
func (k *keeper) addConnection(ctx context.Context, inc string, c fanfare.UserConnection, limit int, replace bool) (fanfare.Admission, error) {
	var asked, alive, dead []string
	for {
		args := []string{connectionMember(inc, c.Client), strconv.Itoa(limit), "0", strconv.Itoa(len(alive))}
		if replace {
			args[2] = "1"
		}
		answer, err := k.tryConnection(ctx, c.User, append(append(args, alive...), dead...))
		if err != nil {
			return fanfare.Admission{}, err
		}
		switch number(answer[0]) {
		case connectionRefused:
			return fanfare.Admission{}, nil
		case connectionCounted:
			a := fanfare.Admission{Admitted: true}
			if len(answer) > 1 {
				inc, client := parseConnection(answer[1])
				a.Replaced = fanfare.UserConnection{Node: nodeOf(inc), User: c.User, Client: client}
			}
			return a, nil
		case connectionUndecided:
			asked = append(asked, answer[1:]...)
			v, err := k.judge(ctx, asked)
			if err != nil {
				return fanfare.Admission{}, err
			}
			alive, dead = v.split(asked)
		}
	}
}

// tryConnection runs the script once.
func (k *keeper) tryConnection(ctx context.Context, user string, args []string) ([]string, error) {
	result, err := k.shard.run(ctx, connectionsAdd, k.connectionKeys(user), args)
	if err != nil {
		return nil, err
	}
	answer, err := result.ToArray()
	if err != nil {
		return nil, unexpected(err)
	}
	parts := make([]string, len(answer))
	for i := range answer {
		if i == 0 {
			n, _ := answer[i].AsInt64()
			parts[i] = strconv.FormatInt(n, 10)
		} else if parts[i], err = answer[i].ToString(); err != nil {
			return nil, unexpected(err)
		}
	}
	return parts, nil
}

// connectionsAgain counts connections in again, whatever the limit, or out.
func (k *keeper) connectionsAgain(ctx context.Context, h *holding, inc string, r repair) error {
	script := connectionsRestore
	if r.leaving {
		script = connectionsRemove
		k.mu.Lock()
		inc = h.inc
		k.mu.Unlock()
	}
	args := make([]string, 0, len(r.clients))
	for _, client := range r.clients {
		args = append(args, connectionMember(inc, client))
	}
	_, err := k.shard.run(ctx, script, k.connectionKeys(r.key.name), args)
	return err
}
