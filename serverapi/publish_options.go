package serverapi

import "github.com/fanfare-go/fanfare"

func (p *publication) options() (opts []fanfare.PublishOption) {
	if len(p.Tags) > 0 {
		opts = append(opts, fanfare.WithTags(p.Tags))
	}
	if p.IdempotencyKey != "" {
		opts = append(opts, fanfare.WithIdempotencyKey(p.IdempotencyKey))
	}
	return opts
}
