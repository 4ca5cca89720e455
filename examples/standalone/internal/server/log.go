package server

import (
	"io"
	"log/slog"

	"github.com/fanfare-go/fanfare/examples/standalone/internal/config"
)

// NewLogger makes the logger that the configuration asks for.
func NewLogger(w io.Writer, c *config.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // the configuration knows slog's names only
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == config.JSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
