package config

import (
	"maps"
	"slices"
)

var Parse = parse

// Keys are all keys of a file, without their paths, and all variables.
func Keys() (keys, variables []string) {
	c := defaults()
	for _, fields := range []map[string]setter{c.fields(), c.Webhooks.fields(), c.Limits.fields(), c.Redis.fields(), new(Channel).fields()} {
		keys = slices.AppendSeq(keys, maps.Keys(fields))
	}
	return keys, slices.Collect(maps.Keys(c.variables()))
}
