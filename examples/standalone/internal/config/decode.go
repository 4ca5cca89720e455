package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Error says what is wrong with one key. It never holds the value of a secret.
type Error struct {
	Source  string // the file, or "environment"
	Line    int    // in the file; 0 if there is no line
	Key     string // the path of the key, such as channels["room:{id}"].history_ttl; empty for the file as a whole
	Problem string
}

func (e *Error) Error() string {
	s := e.Source
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, e.Line)
	}
	if e.Key != "" {
		s += ": " + e.Key
	}
	return s + ": " + e.Problem
}

// value is a piece of JSON, and where it came from.
type value struct {
	raw  []byte
	at   int // offset in the whole of the file
	path string
}

// setter takes the value of one key. What it returns is the problem, without the key.
type setter struct {
	kind kind
	set  func(d *decoder, v value) error
}

// kind says how the text of an environment variable becomes JSON.
type kind uint8

const (
	kindText kind = iota // strings, durations, choices
	kindJSON             // numbers, booleans and objects
	kindList             // strings, separated by commas
)

// decoder collects everything that is wrong, so that nobody has to correct one key after the other.
type decoder struct {
	source string
	data   []byte
	lines  map[string]int // by path; nil where there are none
	errs   []error
}

func (d *decoder) fail(path, problem string) {
	d.errs = append(d.errs, &Error{d.source, d.lines[path], path, problem})
}

// open checks the syntax of the whole, and makes it a value.
func (d *decoder) open() (value, bool) {
	var raw json.RawMessage
	if err := json.Unmarshal(d.data, &raw); err != nil {
		line, problem := 0, err.Error()
		if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
			// Of what is there nothing is repeated: it may be a secret without its quotes.
			line, problem = d.line(int(syntax.Offset)), "not JSON: "+aCharacter.ReplaceAllString(problem, "something unexpected")
		}
		d.errs = append(d.errs, &Error{Source: d.source, Line: line, Problem: problem})
		return value{}, false
	}
	return value{raw: raw, at: bytes.Index(d.data, raw)}, true
}

var aCharacter = regexp.MustCompile(`invalid character '.*?'`)

func (d *decoder) line(offset int) int {
	return 1 + bytes.Count(d.data[:min(max(offset, 0), len(d.data))], []byte("\n"))
}

// members yields the keys and values of an object.
func (d *decoder) members(v value, child func(key string) string, each func(key string, member value)) error {
	dec := json.NewDecoder(bytes.NewReader(v.raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("must be an object, is %s", nameOf(v.raw))
	}
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		m := value{path: child(key)}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		m.raw, m.at = raw, v.at+int(dec.InputOffset())-len(raw)
		if d.lines != nil && d.lines[m.path] == 0 {
			d.lines[m.path] = d.line(m.at)
		}
		if seen[key] {
			d.fail(m.path, "is there twice")
			continue
		}
		seen[key] = true
		each(key, m)
	}
	return nil
}

// section reads an object whose keys are known. elsewhere says of keys that are known in other sections where they belong.
func (d *decoder) section(v value, fields map[string]setter, elsewhere func(key string) string) error {
	return d.members(v, func(key string) string { return joinPath(v.path, key) }, func(key string, m value) {
		f, ok := fields[key]
		if !ok {
			d.fail(m.path, unknown(key, slices.Collect(maps.Keys(fields)), elsewhere(key)))
			return
		}
		if err := f.set(d, m); err != nil {
			d.fail(m.path, err.Error())
		}
	})
}

func unknown(key string, known []string, elsewhere string) string {
	if elsewhere != "" {
		return "unknown key here: " + elsewhere
	}
	if s := suggest(key, known); s != "" {
		return fmt.Sprintf("unknown key; did you mean %q?", s)
	}
	return "unknown key; known are " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// joinPath appends a key to a path. Keys that would be hard to read without are quoted.
func joinPath(path, key string) string {
	switch {
	case !plainKey.MatchString(key):
		if len(key) > maxTypo {
			key = key[:maxTypo] + "…"
		}
		return path + fmt.Sprintf("[%q]", key)
	case path == "":
		return key
	}
	return path + "." + key
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`)

// nameOf says what a JSON value is, not what it holds.
func nameOf(raw []byte) string {
	switch {
	case len(raw) == 0:
		return "missing"
	case raw[0] == '"':
		return "a string"
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "a list"
	case raw[0] == 't', raw[0] == 'f':
		return "a boolean"
	case raw[0] == 'n':
		return "null"
	}
	return "a number"
}

// into decodes plain JSON values. encoding/json would take null for anything.
func into(p any, what string, v value) error {
	if nameOf(v.raw) == "null" || json.Unmarshal(v.raw, p) != nil {
		return fmt.Errorf("must be %s, is %s", what, nameOf(v.raw))
	}
	return nil
}

func text(p *string) setter {
	return setter{kindText, func(_ *decoder, v value) error { return into(p, "a string", v) }}
}

func secret(p *Secret) setter {
	return setter{kindText, func(_ *decoder, v value) error {
		var s string
		if err := into(&s, "a string", v); err != nil {
			return err
		}
		if s == "" {
			return errors.New("must not be empty; leave the key out")
		}
		*p = Secret{s}
		return nil
	}}
}

// secretList is a list of secrets.
func secretList(p *[]Secret) setter {
	return setter{kindList, func(_ *decoder, v value) error {
		var items []string
		if err := into(&items, "a list of strings", v); err != nil {
			return err
		}
		*p = nil
		for _, s := range items {
			*p = append(*p, Secret{s})
		}
		return nil
	}}
}

// secrets is an object of secrets.
func secrets(p *map[string]Secret) setter {
	return setter{kindJSON, func(d *decoder, v value) error {
		*p = make(map[string]Secret)
		return d.members(v, func(key string) string { return joinPath(v.path, key) }, func(key string, m value) {
			var s Secret
			if err := secret(&s).set(d, m); err != nil {
				d.fail(m.path, err.Error())
			}
			(*p)[key] = s
		})
	}}
}

func boolean(p *bool) setter {
	return setter{kindJSON, func(_ *decoder, v value) error { return into(p, "true or false", v) }}
}

func number(p *int, least, most int) setter {
	return setter{kindJSON, func(_ *decoder, v value) error {
		if err := into(p, "a whole number", v); err != nil {
			return err
		}
		if *p < least || *p > most {
			return fmt.Errorf("of %d must be between %d and %d", *p, least, most)
		}
		return nil
	}}
}

func list(p *[]string) setter {
	return setter{kindList, func(_ *decoder, v value) error { return into(p, "a list of strings", v) }}
}

const year = 365 * 24 * time.Hour

func duration(p *time.Duration) setter {
	return setter{kindText, func(_ *decoder, v value) error {
		var s string
		if into(&s, "", v) != nil {
			return fmt.Errorf(`must be a duration in quotes, such as "10m" or "1h30m", is %s`, nameOf(v.raw))
		}
		t, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return fmt.Errorf(`%q must be a duration such as "500ms", "10m" or "24h"`, s)
		case t < 0 || t > year:
			return fmt.Errorf("%q must be between 0s and a year (8760h)", s)
		}
		*p = t
		return nil
	}}
}

func choice[T ~string](p *T, choices ...T) setter {
	return setter{kindText, func(_ *decoder, v value) error {
		var s string
		if err := into(&s, "a string", v); err != nil {
			return err
		}
		if slices.Contains(choices, T(s)) {
			*p = T(s)
			return nil
		}
		var quoted, words []string
		for _, c := range choices {
			quoted, words = append(quoted, fmt.Sprintf("%q", c)), append(words, string(c))
		}
		problem := fmt.Sprintf("%q is none of %s", s, strings.Join(quoted, ", "))
		if near := suggest(s, words); near != "" {
			problem += fmt.Sprintf("; did you mean %q?", near)
		}
		return errors.New(problem)
	}}
}
