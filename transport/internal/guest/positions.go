package guest

import "github.com/fanfare-go/fanfare/internal/cursor"

// positions are those that a cursor is made of.
type positions struct {
	entries []cursor.Entry
	index   map[string]int // by channel
}

// get returns the position in a channel, nil if there is none.
func (p *positions) get(channel string) *cursor.Entry {
	if i, ok := p.index[channel]; ok {
		return &p.entries[i]
	}
	return nil
}

func (p *positions) set(e cursor.Entry) {
	if at := p.get(e.Channel); at != nil {
		*at = e
		return
	}
	if p.index == nil {
		p.index = make(map[string]int)
	}
	p.index[e.Channel] = len(p.entries)
	p.entries = append(p.entries, e)
}

func (p *positions) remove(channel string) {
	i, ok := p.index[channel]
	if !ok {
		return
	}
	delete(p.index, channel)
	last := len(p.entries) - 1
	if i < last {
		p.entries[i] = p.entries[last]
		p.index[p.entries[i].Channel] = i
	}
	p.entries = p.entries[:last]
}
