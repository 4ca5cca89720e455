package config

import "log/slog"

// Secret is a string that does not show itself: not in fmt, slog or JSON. Reveal returns it to whom it is for.
type Secret struct{ value string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the value. Do not log it.
func (s Secret) Reveal() string { return s.value }

// IsSet reports whether there is a value.
func (s Secret) IsSet() bool { return s.value != "" }

const hidden = "[secret]"

// String, GoString, LogValue and MarshalText are the ways in which values get into logs.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return hidden
}

func (s Secret) GoString() string { return s.String() }

func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
