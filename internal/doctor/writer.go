package doctor

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// maxChain bounds the wrappers that are looked at.
const maxChain = 32

// timeoutWriter is the type that [http.TimeoutHandler] hands on.
const timeoutWriter = "*http.timeoutWriter"

type unwrapper interface{ Unwrap() http.ResponseWriter }

func hijacks(w http.ResponseWriter) bool { _, ok := w.(http.Hijacker); return ok }

func flushes(w http.ResponseWriter) bool {
	switch w.(type) {
	case interface{ FlushError() error }, http.Flusher:
		return true
	}
	return false
}

func setsWriteDeadline(w http.ResponseWriter) bool {
	_, ok := w.(interface{ SetWriteDeadline(time.Time) error })
	return ok
}

// capable looks through wrappers as [http.ResponseController] does. last is the writer at which the search ended.
func capable(w http.ResponseWriter, can func(http.ResponseWriter) bool) (last http.ResponseWriter, ok bool) {
	for range maxChain {
		if can(w) {
			return w, true
		}
		u, wraps := w.(unwrapper)
		if !wraps {
			break
		}
		w = u.Unwrap()
	}
	return w, false
}

// CanFlush reports whether a response can be sent bit by bit, as far as its writers promise.
func CanFlush(w http.ResponseWriter) bool { _, ok := capable(w, flushes); return ok }

func typeName(w http.ResponseWriter) string { return shortType(reflect.TypeOf(w)) }

// shortType is a type's name; that of a struct without one would be a page long.
func shortType(t reflect.Type) string {
	if t == nil {
		return "nil"
	}
	name := t.String()
	if strings.HasPrefix(strings.TrimPrefix(name, "*"), "struct {") {
		return "an unnamed struct"
	}
	return short(name)
}

// Chain names the types of a writer and of those below it, as far as they can be seen.
func Chain(w http.ResponseWriter) string {
	var names []string
	for _, v := range writers(w) {
		names = append(names, shortType(v.Type()))
	}
	return strings.Join(names, " → ")
}

// Arrival says what has become of bytes that were written and flushed.
type Arrival uint8

// Unknown: a wrapper that cannot be looked into stands before net/http's own writer.
const (
	Unknown Arrival = iota
	Withheld
	Arrived
)

// Arrives tells whether what was written and flushed through w was passed on by net/http: a wrapper may have a Flush that
// keeps everything. It must be called by who writes.
//
// No interface of net/http tells, so this reads, by name, numbers that its writers keep for themselves. Where the names are
// others the answer is Unknown. Middleware that answers from a goroutine of its own, as a home-made timeout may, races with
// the reading. That is good enough for advice in development, and for nothing else.
func Arrives(w http.ResponseWriter) Arrival {
	all := writers(w)
	last := all[len(all)-1]
	var written, buffered, queued int64
	var known [3]bool
	switch last.Type().String() {
	case timeoutWriter:
		return Withheld // until the handler returns
	case "*http.response":
		written, known[0] = number(last, "written")
		buffered, known[1] = number(last, "w", "n")
		queued, known[2] = number(last, "conn", "bufw", "n")
	case "*http.http2responseWriter":
		written, known[0] = number(last, "rws", "wroteBytes")
		buffered, known[1] = number(last, "rws", "bw", "n")
		known[2] = true
	}
	switch {
	case known != [3]bool{true, true, true}:
		return Unknown
	case written == 0 || buffered > 0 || queued > 0:
		return Withheld
	}
	return Arrived
}

// Switches tells whether the answer to a handshake got to net/http before the connection was taken over; see [Arrives].
func Switches(w http.ResponseWriter) Arrival {
	all := writers(w)
	last := all[len(all)-1]
	if last.Type().String() != "*http.response" {
		return Unknown
	}
	switch status, known := number(last, "status"); {
	case !known:
		return Unknown
	case status != http.StatusSwitchingProtocols:
		return Withheld
	}
	return Arrived
}

// number follows fields by name.
func number(v reflect.Value, path ...string) (int64, bool) {
	for _, name := range path {
		for v.Kind() == reflect.Pointer && !v.IsNil() {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return 0, false
		}
		v = v.FieldByName(name)
	}
	if !v.IsValid() || !v.CanInt() {
		return 0, false
	}
	return v.Int(), true
}

var (
	unwrapperType = reflect.TypeFor[unwrapper]()
	hijackers     = []reflect.Type{reflect.TypeFor[http.Hijacker]()}
	flushers      = []reflect.Type{reflect.TypeFor[http.Flusher](), reflect.TypeFor[interface{ FlushError() error }]()}
)

// culprit names the writer in a chain that has no such method, although one around it promises it.
func culprit(w http.ResponseWriter, method string, having ...reflect.Type) string {
	having = append(slices.Clone(having), unwrapperType)
	for _, v := range writers(w) {
		if !slices.ContainsFunc(having, v.Type().Implements) {
			return fmt.Sprintf(", where %s has neither %s nor Unwrap", shortType(v.Type()), method)
		}
	}
	return ""
}

var writerType = reflect.TypeFor[http.ResponseWriter]()

// writers are w and those below it, from the outside. Beyond Unwrap it finds them in the fields of wrappers.
func writers(w http.ResponseWriter) []reflect.Value {
	v := reflect.ValueOf(w)
	all := []reflect.Value{v}
	for len(all) < maxChain {
		if netHTTP(v.Type()) { // what is below http.TimeoutHandler's writer is another goroutine's
			break
		}
		var ok bool
		if v, ok = below(v); !ok {
			break
		}
		all = append(all, v)
	}
	return all
}

func netHTTP(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "net/http"
}

// below is the writer that v wraps.
func below(v reflect.Value) (reflect.Value, bool) {
	if v.CanInterface() {
		if u, ok := v.Interface().(unwrapper); ok {
			next := reflect.ValueOf(u.Unwrap())
			return next, next.IsValid()
		}
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return v, false
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return v, false
	}
	for i := range v.NumField() {
		if next, ok := writerIn(v.Field(i)); ok {
			return next, true
		}
	}
	return v, false
}

// writerIn is the writer that a field is, or one that an embedded struct has. Only fields that are writers by their type are
// followed: others may be somebody else's, who changes them.
func writerIn(field reflect.Value) (reflect.Value, bool) {
	t := field.Type()
	switch {
	case t.Kind() == reflect.Interface && t.Implements(writerType) && !field.IsNil():
		return field.Elem(), true
	case t.Kind() == reflect.Pointer && t.Implements(writerType) && !field.IsNil():
		return field, true
	case t.Kind() == reflect.Struct && reflect.PointerTo(t).Implements(writerType):
		return below(field)
	}
	return field, false
}
