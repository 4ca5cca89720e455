package serverapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/fanfare-go/fanfare"
)

// api is the handler.
type api struct {
	node   *fanfare.Node
	config Config
	keys   [][sha256.Size]byte
}

// New makes the API of a node. The handler is safe for concurrent use, and starts no goroutines that outlive a request. A wrong
// configuration is an error that names the field.
func New(node *fanfare.Node, c Config) (http.Handler, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &api{node: node, config: c, keys: hashes(c.Keys)}, nil
}

// ServeHTTP serves one request: who may call, what is called, and with what.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !a.authorized(r) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	name, ok := a.method(r.URL.Path)
	switch {
	case !ok:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.config.MaxBody))
	if err != nil {
		status := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, http.StatusText(status), status)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.config.Timeout)
	defer cancel()
	switch name {
	case "":
		a.serveCombined(ctx, w, body)
	case "batch":
		a.serveBatch(ctx, w, body)
	default:
		transport := a.config.TransportErrors || strings.EqualFold(r.Header.Get("X-Centrifugo-Error-Mode"), "transport")
		a.serveMethod(ctx, w, name, body, transport)
	}
}

// method returns the method that a path names: none for the combined form.
func (a *api) method(path string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(path, a.config.Prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	name = strings.TrimPrefix(rest, "/")
	return name, name == "" || name == "batch" || commands[name] != nil
}

// answer is that of one command: a result or an error.
type answer struct {
	Result any       `json:"result,omitempty"`
	Error  *apiError `json:"error,omitempty"`
}

func (a *api) serveMethod(ctx context.Context, w http.ResponseWriter, name string, body []byte, transport bool) {
	result, err := commands[name](a, ctx, body)
	switch {
	case errors.Is(err, errMalformed):
		badRequest(w)
	case err != nil && transport:
		e := a.apiErrorOf(ctx, name, err)
		a.write(w, e.status(), e)
	case err != nil:
		a.write(w, http.StatusOK, answer{Error: a.apiErrorOf(ctx, name, err)})
	default:
		a.write(w, http.StatusOK, answer{Result: result})
	}
}

// do executes a command of several in one request.
func (a *api) do(ctx context.Context, name string, params json.RawMessage) (result any, e *apiError) {
	command := commands[name]
	if command == nil {
		return nil, errNotFound
	}
	result, err := command(a, ctx, params)
	if err != nil {
		return nil, a.apiErrorOf(ctx, name, err)
	}
	return result, nil
}

func badRequest(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = io.WriteString(w, "Bad Request") // without the newline of http.Error
}

func (a *api) write(w http.ResponseWriter, status int, v any) {
	body, err := encode(v)
	if err != nil {
		a.config.Logger.Error("server API: answer is not JSON", slog.Any("err", err))
		status = http.StatusOK
		body, _ = encode(answer{Error: errInternal})
	}
	a.writeBytes(w, status, body)
}

func (a *api) writeBytes(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller has left
}

// encode encodes without a newline behind it, and leaves "<" as it is.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
