package config

// Limits bound what one client or user may do. Zero is the node's default.
type Limits struct {
	UserConnections int
	ReplaceOldest   bool
	Commands        int // these four per second
	UserCommands    int
	Subscribes      int
	UserConnects    int
}

// maxRate is more than a client can do.
const maxRate = 100_000

func (l *Limits) fields() map[string]setter {
	return map[string]setter{
		"user_connections":         number(&l.UserConnections, 1, maxRate),
		"replace_oldest":           boolean(&l.ReplaceOldest),
		"commands_per_second":      number(&l.Commands, 1, maxRate),
		"user_commands_per_second": number(&l.UserCommands, 1, maxRate),
		"subscribes_per_second":    number(&l.Subscribes, 1, maxRate),
		"user_connects_per_second": number(&l.UserConnects, 1, maxRate),
	}
}

func (c *Config) checkLimits(complain complaint) {
	if c.Limits.ReplaceOldest && c.Limits.UserConnections == 0 {
		complain("limits.replace_oldest", "needs limits.user_connections")
	}
}
