package protocol

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD. Escaped are the characters that JSON demands
// and the line separators U+2028 and U+2029, so that the result holds no line end of any kind.
func AppendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = appendEscape(dst, c)
			i++
			start = i
			continue
		}
		// The conversion of so few bytes stays on the stack.
		r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		escape := ""
		switch {
		case r == utf8.RuneError && size == 1:
			escape = `\ufffd`
		case r == '\u2028':
			escape = `\u2028`
		case r == '\u2029':
			escape = `\u2029`
		}
		i += size
		if escape != "" {
			dst = append(dst, s[start:i-size]...)
			dst = append(dst, escape...)
			start = i
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// StringSize returns how many bytes [AppendString] appends.
func StringSize[S ~string | ~[]byte](s S) int {
	size := len(s) + len(`""`)
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"', c == '\\', c == '\n', c == '\r', c == '\t':
				size++
			case c < ' ':
				size += len(`\u0000`) - 1
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if r == utf8.RuneError && n == 1 || r == '\u2028' || r == '\u2029' {
			size += len(`\u0000`) - n
		}
		i += n
	}
	return size
}

// appendEscape appends an ASCII character that may not stand in a JSON string as it is.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(append(dst, `\u00`...), hexDigits[c>>4], hexDigits[c&0xf])
}

// DecodeString returns the text of a payload that is a JSON string, and false for any other payload.
func DecodeString(raw Raw) (string, bool) {
	val, err := jsonDocument(raw)
	if err != nil || val[0] != '"' {
		return "", false
	}
	return unquoteJSON(val), true
}

// unquoteJSON returns the text of a checked string, quotes included in val.
func unquoteJSON(val []byte) string {
	if bytes.IndexByte(val, '\\') < 0 {
		return string(val[1 : len(val)-1])
	}
	var s string
	_ = json.Unmarshal(val, &s) // cannot fail: checked
	return s
}
