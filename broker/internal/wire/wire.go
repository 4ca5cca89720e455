// Package wire is how brokers that have a network write publications and memberships: messages of Protobuf, so that nodes of
// different versions understand each other while an app is deployed. Positions are not part of it: the broker knows them best.
package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fanfare-go/fanfare"
)

// Fields of the messages. Numbers are never used again for something else.
const (
	publicationData   protowire.Number = 1
	publicationInfo   protowire.Number = 2
	publicationTag    protowire.Number = 3 // repeated
	publicationExcept protowire.Number = 4

	tagKey   protowire.Number = 1
	tagValue protowire.Number = 2

	infoUser     protowire.Number = 1
	infoClient   protowire.Number = 2
	infoConnInfo protowire.Number = 3
	infoChanInfo protowire.Number = 4

	membershipJoined protowire.Number = 1
	membershipInfo   protowire.Number = 2
)

var errMalformed = errors.New("malformed message")

// AppendPublication appends p without its position.
func AppendPublication(dst []byte, p *fanfare.Publication) []byte {
	dst = appendBytes(dst, publicationData, p.Data)
	if p.Info != nil {
		dst = protowire.AppendTag(dst, publicationInfo, protowire.BytesType)
		dst = protowire.AppendBytes(dst, AppendClientInfo(nil, *p.Info))
	}
	for k, v := range p.Tags {
		dst = protowire.AppendTag(dst, publicationTag, protowire.BytesType)
		dst = protowire.AppendBytes(dst, AppendField(AppendField(nil, tagKey, k), tagValue, v))
	}
	return AppendField(dst, publicationExcept, p.Except)
}

// Publication decodes what [AppendPublication] made. It keeps parts of message.
func Publication(message []byte) (*fanfare.Publication, error) {
	p := &fanfare.Publication{Data: []byte{}}
	err := fields(message, func(n protowire.Number, value []byte) (err error) {
		switch n {
		case publicationData:
			p.Data = value
		case publicationInfo:
			var info fanfare.ClientInfo
			info, err = ClientInfo(value)
			p.Info = &info
		case publicationTag:
			var key, val string
			err = fields(value, func(n protowire.Number, value []byte) error {
				switch n {
				case tagKey:
					key = string(value)
				case tagValue:
					val = string(value)
				}
				return nil
			})
			if p.Tags == nil {
				p.Tags = make(map[string]string)
			}
			p.Tags[key] = val
		case publicationExcept:
			p.Except = string(value)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("publication: %w", err)
	}
	return p, nil
}

// AppendClientInfo appends m.
func AppendClientInfo(dst []byte, m fanfare.ClientInfo) []byte {
	dst = AppendField(dst, infoUser, m.User)
	dst = AppendField(dst, infoClient, m.Client)
	dst = appendBytes(dst, infoConnInfo, m.ConnInfo)
	return appendBytes(dst, infoChanInfo, m.ChanInfo)
}

// ClientInfo decodes what [AppendClientInfo] made. It keeps parts of message.
func ClientInfo(message []byte) (fanfare.ClientInfo, error) {
	var m fanfare.ClientInfo
	err := fields(message, func(n protowire.Number, value []byte) error {
		switch n {
		case infoUser:
			m.User = string(value)
		case infoClient:
			m.Client = string(value)
		case infoConnInfo:
			m.ConnInfo = value
		case infoChanInfo:
			m.ChanInfo = value
		}
		return nil
	})
	if err != nil {
		return fanfare.ClientInfo{}, fmt.Errorf("client: %w", err)
	}
	return m, nil
}

// AppendMembership appends m.
func AppendMembership(dst []byte, m fanfare.Membership) []byte {
	if m.Joined {
		dst = appendBytes(dst, membershipJoined, []byte{1})
	}
	dst = protowire.AppendTag(dst, membershipInfo, protowire.BytesType)
	return protowire.AppendBytes(dst, AppendClientInfo(nil, m.Info))
}

// Membership decodes what [AppendMembership] made. It keeps parts of message.
func Membership(message []byte) (fanfare.Membership, error) {
	var m fanfare.Membership
	err := fields(message, func(n protowire.Number, value []byte) (err error) {
		switch n {
		case membershipJoined:
			m.Joined = true
		case membershipInfo:
			m.Info, err = ClientInfo(value)
		}
		return err
	})
	if err != nil {
		return fanfare.Membership{}, fmt.Errorf("membership: %w", err)
	}
	return m, nil
}

// AppendField appends a field that has a length, unless it is empty.
func AppendField[T string | []byte](dst []byte, n protowire.Number, value T) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.BytesType), uint64(len(value)))
	return append(dst, value...)
}

// appendBytes leaves nil out, and keeps what is empty.
func appendBytes(dst []byte, n protowire.Number, value []byte) []byte {
	if value == nil {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, n, protowire.BytesType), value)
}

// fields calls f for every field that has a length, and skips others: they are of a later version.
func fields(message []byte, f func(n protowire.Number, value []byte) error) error {
	for len(message) > 0 {
		n, typ, size := protowire.ConsumeTag(message)
		if size < 0 {
			return errMalformed
		}
		message = message[size:]
		if typ != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(n, typ, message); size < 0 {
				return errMalformed
			}
			message = message[size:]
			continue
		}
		value, size := protowire.ConsumeBytes(message)
		if size < 0 {
			return errMalformed
		}
		message = message[size:]
		if err := f(n, value[:len(value):len(value)]); err != nil {
			return err
		}
	}
	return nil
}
