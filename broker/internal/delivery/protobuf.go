package delivery

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields calls visit with every field of a message: with its number if it is one, or its bytes.
func fields(b []byte, visit func(field protowire.Number, number uint64, bytes []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var number uint64
		var bytes []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := visit(field, number, bytes); err != nil {
			return fmt.Errorf("field %d: %w", field, err)
		}
	}
	return nil
}

func decodeMessage(b []byte) (*message, error) {
	m := new(message)
	err := fields(b, func(field protowire.Number, number uint64, bytes []byte) (err error) {
		switch field {
		case 1:
			m.ID = uint32(number)
		case 2:
			m.Error = new(failure)
			return m.Error.decode(bytes)
		case 4:
			m.Push = new(push)
			return m.Push.decode(bytes)
		case 5:
			m.Connect = new(connectResult)
			return m.Connect.decode(bytes)
		case 6:
			m.Subscribe = new(subscribeResult)
			return m.Subscribe.decode(bytes)
		}
		return nil
	})
	return m, err
}

func (f *failure) decode(b []byte) error {
	return fields(b, func(field protowire.Number, number uint64, bytes []byte) error {
		switch field {
		case 1:
			f.Code = uint32(number)
		case 2:
			f.Message = string(bytes)
		case 3:
			f.Temporary = number != 0
		}
		return nil
	})
}

func (r *connectResult) decode(b []byte) error {
	return fields(b, func(field protowire.Number, _ uint64, bytes []byte) error {
		switch field {
		case 9:
			r.Session = string(bytes)
		case 10:
			r.Node = string(bytes)
		}
		return nil
	})
}

func (r *subscribeResult) decode(b []byte) error {
	return fields(b, func(field protowire.Number, number uint64, bytes []byte) error {
		switch field {
		case 3:
			r.Recoverable = number != 0
		case 6:
			r.Epoch = string(bytes)
		case 7:
			var p publication
			err := p.decode(bytes)
			r.Publications = append(r.Publications, p)
			return err
		case 8:
			r.Recovered = number != 0
		case 9:
			r.Offset = number
		case 12:
			r.WasRecovering = number != 0
		}
		return nil
	})
}

func (p *publication) decode(b []byte) error {
	return fields(b, func(field protowire.Number, number uint64, bytes []byte) error {
		switch field {
		case 4:
			p.Data = payload(bytes)
		case 6:
			p.Offset = number
		}
		return nil
	})
}

func (p *push) decode(b []byte) error {
	return fields(b, func(field protowire.Number, _ uint64, bytes []byte) error {
		switch field {
		case 2:
			p.Channel = string(bytes)
		case 4:
			p.Pub = new(publication)
			return p.Pub.decode(bytes)
		case 7:
			p.Unsubscribe = new(end)
			return p.Unsubscribe.decode(bytes, 2)
		case 11:
			p.Disconnect = new(end)
			return p.Disconnect.decode(bytes, 1)
		}
		return nil
	})
}

// decode reads a code and the reason behind it; where they are depends on what ends.
func (e *end) decode(b []byte, code protowire.Number) error {
	return fields(b, func(field protowire.Number, number uint64, bytes []byte) error {
		switch field {
		case code:
			e.Code = uint32(number)
		case code + 1:
			e.Reason = string(bytes)
		}
		return nil
	})
}
