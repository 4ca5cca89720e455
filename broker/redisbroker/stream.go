package redisbroker

import (
	_ "embed" // the scripts
	"strings"

	"github.com/redis/rueidis"
)

//go:embed stream.lua
var streamCommon string

//go:embed stream_trim.lua
var streamTrim string

//go:embed stream_publish.lua
var streamPublish string

//go:embed stream_history.lua
var streamHistory string

//go:embed stream_remove.lua
var streamRemove string

//go:embed stream_once.lua
var streamOnce string

// Scripts are run by their hash, and sent whole to a server that does not know them (yet, or any more).
var (
	publishScript = streamScript(streamPublish)
	historyScript = streamScript(streamHistory)
	removeScript  = rueidis.NewLuaScript(streamRemove)
	onceScript    = rueidis.NewLuaScript(streamOnce)
)

// streamScript puts what the scripts have in common where they name it.
func streamScript(script string) *rueidis.Lua {
	return rueidis.NewLuaScript(strings.NewReplacer("--- stream.lua\n", streamCommon, "--- stream_trim.lua\n", streamTrim).Replace(script))
}
