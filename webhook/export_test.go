package webhook

// Read decodes an answer as the hook of that name does, and returns what the node would get.
func Read(hook string, body []byte) (any, error) {
	s := &State{}
	switch hook {
	case "Connect":
		return read(body, func(r *connectResult) (any, error) { return r.identity(s) })
	case "Refresh", "SubRefresh":
		return read(body, func(r *refreshResult) (any, error) { return r.until() })
	case "Subscribe":
		return read(body, func(r *subscribeResult) (any, error) { return r.reply() })
	case "Publish":
		return read(body, func(r *publishResult) (any, error) { return bytesOf("data", r.Data, r.B64Data) })
	default:
		return read(body, func(r *rpcResult) (any, error) { return bytesOf("data", r.Data, r.B64Data) })
	}
}

func read[T any](body []byte, then func(*T) (any, error)) (any, error) {
	r, err := decodeAnswer[T](body)
	if err != nil {
		return nil, err
	}
	return then(r)
}

// ErrSense is the error of answers that make no sense.
var ErrSense = errSense
