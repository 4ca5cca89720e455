package serverapi

import (
	"context"
	"encoding/json"

	"github.com/fanfare-go/fanfare"
)

type channelRequest struct {
	Channel string `json:"channel"`
}

type clientInfo struct {
	User     string          `json:"user"`
	Client   string          `json:"client"`
	ConnInfo json.RawMessage `json:"conn_info,omitempty"`
	ChanInfo json.RawMessage `json:"chan_info,omitempty"`
}

func infoOf(i *fanfare.ClientInfo) *clientInfo {
	return &clientInfo{User: i.User, Client: i.Client, ConnInfo: i.ConnInfo, ChanInfo: i.ChanInfo}
}

type presenceResult struct {
	Presence map[string]*clientInfo `json:"presence"`
}

func (a *api) presence(ctx context.Context, r *channelRequest) (presenceResult, error) {
	if r.Channel == "" {
		return presenceResult{}, errBadRequest
	}
	members, err := a.node.Presence(ctx, r.Channel)
	if err != nil {
		return presenceResult{}, err
	}
	result := presenceResult{make(map[string]*clientInfo, len(members))}
	for i := range members {
		result.Presence[members[i].Client] = infoOf(&members[i])
	}
	return result, nil
}

type presenceStatsResult struct {
	NumClients int `json:"num_clients"`
	NumUsers   int `json:"num_users"`
}

func (a *api) presenceStats(ctx context.Context, r *channelRequest) (presenceStatsResult, error) {
	if r.Channel == "" {
		return presenceStatsResult{}, errBadRequest
	}
	stats, err := a.node.PresenceStats(ctx, r.Channel)
	return presenceStatsResult{stats.Clients, stats.Users}, err
}

type historyRequest struct {
	Channel string    `json:"channel"`
	Limit   int       `json:"limit"`
	Since   *position `json:"since"`
	Reverse bool      `json:"reverse"`
}

type historyItem struct {
	Data    json.RawMessage   `json:"data,omitempty"`
	B64Data []byte            `json:"b64data,omitempty"`
	Info    *clientInfo       `json:"info,omitempty"`
	Offset  uint64            `json:"offset"`
	Tags    map[string]string `json:"tags,omitempty"`
}

type historyResult struct {
	Publications []historyItem `json:"publications"`
	Epoch        string        `json:"epoch"`
	Offset       uint64        `json:"offset"`
}

func (a *api) history(ctx context.Context, r *historyRequest) (historyResult, error) {
	if r.Channel == "" {
		return historyResult{}, errBadRequest
	}
	kind, err := a.node.Payload(r.Channel)
	if err != nil {
		return historyResult{}, err
	}
	h, err := a.node.History(ctx, r.Channel, fanfare.HistoryQuery{Since: r.Since.position(), Limit: r.Limit, Reverse: r.Reverse})
	if err != nil {
		return historyResult{}, err
	}
	result := historyResult{Publications: make([]historyItem, len(h.Publications)), Epoch: h.Epoch, Offset: h.Offset}
	for i, p := range h.Publications {
		result.Publications[i] = itemOf(kind, p)
	}
	return result, nil
}

func itemOf(kind fanfare.Payload, p *fanfare.Publication) historyItem {
	item := historyItem{Offset: p.Offset, Tags: p.Tags}
	switch kind {
	case fanfare.PayloadText:
		item.Data, _ = encode(string(p.Data)) // a string can always be encoded
	case fanfare.PayloadBinary:
		item.B64Data = p.Data
	default:
		item.Data = p.Data
	}
	if p.Info != nil {
		item.Info = infoOf(p.Info)
	}
	return item
}

func (a *api) removeHistory(ctx context.Context, r *channelRequest) (empty, error) {
	if r.Channel == "" {
		return empty{}, errBadRequest
	}
	return empty{}, a.node.RemoveHistory(ctx, r.Channel)
}
