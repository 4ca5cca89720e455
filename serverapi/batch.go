package serverapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"golang.org/x/sync/errgroup"
)

type batchRequest struct {
	Commands []map[string]json.RawMessage `json:"commands"`
	Parallel bool                         `json:"parallel"`
}

type batchResult struct {
	Replies []map[string]any `json:"replies"`
}

// serveBatch answers with status 200 in both error modes: each reply has its own result or error.
func (a *api) serveBatch(ctx context.Context, w http.ResponseWriter, body []byte) {
	var r batchRequest
	switch err := decode(body, &r); {
	case err != nil:
		badRequest(w)
		return
	case len(r.Commands) > a.config.MaxItems:
		a.write(w, http.StatusOK, answer{Error: errBadRequest})
		return
	}
	result := batchResult{make([]map[string]any, len(r.Commands))}
	if !r.Parallel {
		for i, c := range r.Commands {
			result.Replies[i] = a.reply(ctx, c)
		}
		a.write(w, http.StatusOK, result)
		return
	}
	var group errgroup.Group // waited for below
	group.SetLimit(a.config.Concurrency)
	for i, c := range r.Commands {
		group.Go(func() error {
			result.Replies[i] = a.reply(ctx, c)
			return nil
		})
	}
	_ = group.Wait()
	a.write(w, http.StatusOK, result)
}

// reply executes a command of a batch. Libraries look for the result under the method's name, also if it is empty.
func (a *api) reply(ctx context.Context, c map[string]json.RawMessage) map[string]any {
	var name string
	for key, params := range c {
		if present(params) == nil {
			continue
		}
		if name != "" {
			return map[string]any{"error": errBadRequest}
		}
		name = key
	}
	result, err := a.do(ctx, name, c[name])
	if err != nil {
		return map[string]any{"error": err}
	}
	return map[string]any{name: result}
}

// combinedCommand is one of the old form.
type combinedCommand struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// serveCombined serves the old form: commands one behind the other, answered line by line. Nothing is done if any of them cannot be
// read.
func (a *api) serveCombined(ctx context.Context, w http.ResponseWriter, body []byte) {
	list, err := decodeCombined(body)
	if err != nil || len(list) == 0 || len(list) > a.config.MaxItems {
		badRequest(w)
		return
	}
	var out bytes.Buffer
	for i, c := range list {
		if i > 0 {
			out.WriteByte('\n') // between them only: cent.js takes each line for an answer
		}
		params := present(c.Params)
		if params == nil {
			params = json.RawMessage(`{}`)
		}
		var reply answer
		reply.Result, reply.Error = a.do(ctx, c.Method, params)
		line, err := encode(reply)
		if err != nil {
			line, _ = encode(answer{Error: a.apiErrorOf(ctx, c.Method, err)})
		}
		out.Write(line)
	}
	a.writeBytes(w, http.StatusOK, out.Bytes())
}

func decodeCombined(body []byte) (list []combinedCommand, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		var c combinedCommand
		if err := decode(raw, &c); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
}
