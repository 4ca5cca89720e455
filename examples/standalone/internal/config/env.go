package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// prefix begins the names of environment variables: FANFARE_ and the key in capitals, with _ between the levels.
const prefix = "FANFARE_"

// FileVariable names the file, where no argument does.
const FileVariable = prefix + "CONFIG"

// variables are the settings that the environment overrides, by name. FANFARE_CHANNELS is all channels, as JSON.
func (c *Config) variables() map[string]setter {
	vars := make(map[string]setter)
	for key, f := range c.fields() {
		if key != "webhooks" && key != "limits" && key != "redis" {
			vars[prefix+strings.ToUpper(key)] = f
		}
	}
	for key, f := range c.Webhooks.fields() {
		vars[prefix+"WEBHOOKS_"+strings.ToUpper(key)] = f
	}
	for key, f := range c.Limits.fields() {
		vars[prefix+"LIMITS_"+strings.ToUpper(key)] = f
	}
	for key, f := range c.Redis.fields() {
		vars[prefix+"REDIS_"+strings.ToUpper(key)] = f
	}
	return vars
}

// override applies the environment. An empty variable is one that is not set, as compose files leave them. Unknown ones are only
// warned of, because platforms make some by themselves (Kubernetes: FANFARE_SERVICE_HOST), unless they look like a typo.
func (c *Config) override(d *decoder, environ []string) (warnings []string) {
	vars := c.variables()
	known := slices.Collect(maps.Keys(vars))
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, content, ok := strings.Cut(entry, "=")
		if !ok || content == "" || !strings.HasPrefix(name, prefix) || name == FileVariable {
			continue
		}
		f, ok := vars[name]
		if !ok {
			if near := suggestVariable(name, known); near != "" {
				d.fail(name, fmt.Sprintf("unknown variable; did you mean %s?", near))
			} else {
				warnings = append(warnings, fmt.Sprintf("environment: %s is not a setting", name))
			}
			continue
		}
		raw, ok := asJSON(f.kind, content)
		if !ok {
			d.fail(name, "must be JSON: true, a number, or an object")
			continue
		}
		if err := f.set(d, value{raw: raw, path: name}); err != nil {
			d.fail(name, err.Error())
		}
	}
	return warnings
}

func suggestVariable(name string, known []string) string {
	var words []string
	for _, k := range known {
		words = append(words, strings.TrimPrefix(k, prefix))
	}
	if near := suggest(strings.TrimPrefix(name, prefix), words); near != "" {
		return prefix + near
	}
	return ""
}

// asJSON is the text of a variable as the file would have it.
func asJSON(k kind, content string) (raw []byte, ok bool) {
	switch k {
	case kindText:
		raw, _ = json.Marshal(content)
	case kindList:
		var items []string
		for s := range strings.SplitSeq(content, ",") {
			if s = strings.TrimSpace(s); s != "" {
				items = append(items, s)
			}
		}
		raw, _ = json.Marshal(items)
	default:
		raw = []byte(strings.TrimSpace(content))
	}
	return raw, json.Valid(raw)
}
