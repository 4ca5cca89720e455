package server

import (
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/examples/standalone/internal/config"
)

// limit says in the library's words what the file says of limits. Bursts are the library's: a client that comes back sends
// everything at once.
func limit(nc *fanfare.Config, l *config.Limits) {
	nc.MaxUserConnections = l.UserConnections
	nc.ReplaceOldest = l.ReplaceOldest
	nc.CommandRate = perSecond(l.Commands)
	nc.UserCommandRate = perSecond(l.UserCommands)
	nc.SubscribeRate = perSecond(l.Subscribes)
	nc.ConnectRate = perSecond(l.UserConnects)
}

// perSecond is a rate; 0 leaves it as the library has it.
func perSecond(n int) fanfare.Rate {
	if n == 0 {
		return fanfare.Rate{}
	}
	return fanfare.Rate{Every: time.Second / time.Duration(n)}
}
