package serverapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/fanfare-go/fanfare"
)

type channelsRequest struct {
	Pattern string `json:"pattern"`
}

type channelInfo struct {
	NumClients int `json:"num_clients"`
}

type channelsResult struct {
	Channels map[string]channelInfo `json:"channels"`
}

// channels does not answer with numbers that are too small: a survey that failed in part fails.
func (a *api) channels(ctx context.Context, r *channelsRequest) (channelsResult, error) {
	watched, err := a.node.Channels(ctx, r.Pattern)
	if err != nil {
		return channelsResult{}, err
	}
	result := channelsResult{make(map[string]channelInfo, len(watched))}
	for name, c := range watched {
		result.Channels[name] = channelInfo{c.Clients}
	}
	return result, nil
}

type nodeInfo struct {
	UID         string `json:"uid"`
	Name        string `json:"name"`
	Version     string `json:"version"`
	NumClients  int    `json:"num_clients"`
	NumUsers    int    `json:"num_users"`
	NumSubs     int    `json:"num_subs"`
	NumChannels int    `json:"num_channels"`
	Uptime      int64  `json:"uptime"`
}

type infoResult struct {
	Nodes []nodeInfo `json:"nodes"`
}

// info answers with the nodes that there are: one that does not answer is none of them.
func (a *api) info(ctx context.Context, _ *empty) (infoResult, error) {
	info, err := a.node.Info(ctx)
	if partial, ok := errors.AsType[*fanfare.SurveyError](err); ok {
		a.config.Logger.Warn("server API: nodes do not answer", slog.Any("err", partial))
	} else if err != nil {
		return infoResult{}, err
	}
	var result infoResult
	for _, n := range info.Nodes {
		result.Nodes = append(result.Nodes, nodeInfo{UID: n.ID, Name: n.Name, Version: n.Version, NumClients: n.Clients,
			NumUsers: n.Users, NumSubs: n.Subscriptions, NumChannels: n.Channels, Uptime: int64(n.Uptime.Seconds())})
	}
	return result, nil
}

type rpcRequest struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

type rpcResult struct {
	Data json.RawMessage `json:"data,omitempty"`
}

func (a *api) rpc(ctx context.Context, r *rpcRequest) (rpcResult, error) {
	fn := a.config.RPC[r.Method]
	if fn == nil {
		return rpcResult{}, errNotFound
	}
	data, err := callRPC(ctx, fn, present(r.Params))
	if err != nil {
		return rpcResult{}, fmt.Errorf("method %q: %w", r.Method, err)
	}
	if len(data) > 0 && !json.Valid(data) {
		return rpcResult{}, fmt.Errorf("method %q: what it returned is not JSON", r.Method)
	}
	return rpcResult{data}, nil
}

// callRPC turns a panic into an error: in a parallel batch nobody else would catch it.
func callRPC(ctx context.Context, fn RPCFunc, params json.RawMessage) (data json.RawMessage, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(ctx, params)
}
